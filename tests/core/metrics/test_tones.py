from __future__ import annotations

import numpy as np
import pytest

from core.metrics import tones


@pytest.mark.parametrize("name", tones.INSTRUMENTS)
def test_a_tone_has_its_pitch(name):
    rate = 16000
    sound = tones.synthesize(name, 69, 1.0, rate)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    peaks = np.flatnonzero(spectrum > 0.05 * spectrum.max()) * rate / len(sound)
    nearest = np.round(peaks / 440) * 440
    assert np.abs(peaks - nearest).max() < 45  # vibrato and decay widen the partials
    assert np.abs(sound).max() <= tones.PEAK + 1e-6
