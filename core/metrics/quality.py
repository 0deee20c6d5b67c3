"""How a file sounds by itself, and how far it is from a true rendering.

Against a paired reference (the same music truly played on the target instrument):

`log_spectral_distance_db`: as Cífka, Ozerov, Şimşekli & Richard 2021 ("Self-supervised VQ-VAE for
    one-shot music style transfer") compute it in their published evaluation: the output cut or
    padded with silence to the reference, both at 16 kHz and scaled to a root mean square of 1;
    power spectrograms in 128 Slaney mel bands (window 2048, hop 512, reflected ends), in decibels
    and no lower than 80 dB below each file's loudest cell; in each band the root mean square
    difference over time, then the mean over bands. Unit: dB. From 0 (identical); lower is better.

Of the file alone, each to be held against the target domain's own distribution:

`clipped_fraction`: share of samples at full scale, 0 to 1; clean audio has 0.
`silence_fraction`: share of 50 ms frames below -60 dBFS, 0 to 1.
`spectral_flatness`: geometric over arithmetic mean of the power spectrum from 100 Hz to 7 kHz, mean
    over frames; from 0 (a pure tone) to about 0.56 (white noise). Johnston 1988.
`spectral_contrast_db`: level of the strongest over the weakest fifth of the bins in each octave,
    mean over octaves and frames, in dB from 0. Clear partials score high, smeared and noisy sound
    low. Jiang et al. 2002, "Music type classification by spectral contrast feature".
`harmonic_share`: share of the energy below 6 kHz that median filtering gives to steady partials and
    not to vertical strokes, 0 to 1. Sound whose partials waver and melt together scores low.
    Fitzgerald 2010, "Harmonic/percussive separation using median filtering".
`attack_sharpness_db`: the fastest rise within 20 ms of the level in 24 mel bands, mean over bands;
    then the largest of each second, mean over the seconds that sound. dB, from 0.
`out_of_band_share`: share of the energy above `rolloff_hz`, the frequency below which 99 % of the
    target domain's energy lies; 0 to 1, and 0.01 in the domain itself.

No samples are an error (AudioError). Silence has a silence_fraction of 1, a clipped_fraction of 0,
and None for all that needs sound; a distance to or from silence is None as well. Frames count from
40 dB below the file's loud frames upwards, if above -80 dBFS. More than `MAX_SECONDS` are measured
by excerpts, spread evenly, in the figures that read spectra.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch.nn import functional as F

from core.errors import AudioError
from core.metrics.spectra import (
    ANALYSIS_RATE,
    Waveform,
    at_analysis_rate,
    mel_filters,
    power_blocks,
    sounding,
    validate_waveform,
)

FULL_SCALE = 32_766 / 32_768  # a 16-bit sample one step below the top counts as clipped
SILENCE_DBFS = -60.0
WINDOW, HOP = 2048, 1024  # samples; 128 ms, partials 20 Hz apart are told from one another
MEDIAN_FRAMES, MEDIAN_BINS = 9, 17  # 0.6 s along time; 130 Hz along frequency
HARMONIC_BELOW_HZ = 6_000
"""

"""
