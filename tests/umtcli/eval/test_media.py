"""Pictures of a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from umtcli.eval.media import frequency_ticks, png, spectrogram_uri


def test_a_picture_has_its_pixels_in_the_colours_of_a_spectrogram():
    shades = np.array([[0, 255, 7], [3, 3, 255]], dtype=np.uint8)
    picture = Image.open(io.BytesIO(png(shades)))
    assert picture.size == (3, 2)
    colours = np.asarray(picture.convert("RGB"))
    assert colours[0, 0].tolist() == [6, 5, 24]
    assert colours[0, 1].tolist() == colours[1, 2].tolist() == [253, 250, 200]
    assert colours[1, 0].tolist() == colours[1, 1].tolist() != colours[0, 2].tolist()


@pytest.mark.parametrize(("hertz", "label"), [(500, "500 Hz"), (1000, "1 kHz"), (4000, "4")])
def test_a_tone_stands_at_the_height_of_its_label(hertz, label):
    tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)
    data = base64.b64decode(spectrogram_uri(tone, 16000).split(",")[1])
    picture = np.asarray(Image.open(io.BytesIO(data)))
    brightest = picture[:, picture.shape[1] // 2].argmax()
    height = 100 * (1 - (brightest + 0.5) / len(picture))
    assert height == pytest.approx(frequency_ticks()[label], abs=1.5)
