"""Pictures of a page."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from umtcli.eval.media import png


def test_a_picture_has_its_pixels_in_the_colours_of_a_spectrogram():
    shades = np.array([[0, 255, 7], [3, 3, 255]], dtype=np.uint8)
    picture = Image.open(io.BytesIO(png(shades)))
    assert picture.size == (3, 2)
    colours = np.asarray(picture.convert("RGB"))
    assert colours[0, 0].tolist() == [6, 5, 24]
    assert colours[0, 1].tolist() == colours[1, 2].tolist() == [253, 250, 200]
    assert colours[1, 0].tolist() == colours[1, 1].tolist() != colours[0, 2].tolist()
