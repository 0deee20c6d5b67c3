from __future__ import annotations

import numpy as np

from core.metrics.timbre.features import N_FEATURES, features, window_spectra
from tests.sounds import RATE, melody, noise, piano


def test_every_window_has_finite_features_of_one_size():
    for waveform in (noise(4), piano(melody(0, 5.0)), np.full(3 * RATE, 0.1, np.float32)):
        values = features(window_spectra(waveform))
        assert values.shape[1] == N_FEATURES
        assert values.isfinite().all()


def test_windows_are_one_hop_apart_and_skip_silence():
    sound = np.concatenate([noise(4), np.zeros(6 * RATE, np.float32), noise(4)])
    assert len(window_spectra(sound)) == 4
    assert len(window_spectra(noise(9), hop_seconds=1)) == 8
    assert len(window_spectra(noise(1))) == 1
