"""Do presences mean notes? How clearly an encoder finds a single note, and an octave.

In: presences of a sound whose notes are known. Out: how far below its own key all other keys are,
in dB, and whether both keys of an octave are found. Source-filter models of pitch have the same
two failings: overtones that pass for notes, and octaves that pass for overtones (Klapuri 2008,
"Multipitch analysis of polyphonic music and speech signals").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

LOWEST_KEY, N_KEYS = 21, 88  # MIDI number of the first presence, and how many there are
DB_PER_UNIT = 40.0  # a presence of 1 is full scale, one of -1 is -80 dB
CLEAR_DB = 25.0  # by which a note stands out


def presences_db(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the presences of latents in dB of full scale.

    Args:
        latents: float32 [L, D]; the first 88 channels are the tanh of presences.

    Returns:
        float32 [L, 88].
    """
    bounded = np.clip(latents[:, :N_KEYS], -1 + 1e-4, 1 - 1e-4)
    return np.float32(DB_PER_UNIT) * (np.arctanh(bounded) - np.float32(1))


def separation_db(presences: NDArray[np.float32], keys: Collection[int]) -> float:
    """Return by how much the quietest of the keys played stands above the loudest other key.

    Args:
        presences: While the keys sound, dB, float32 [L, 88].
        keys: MIDI numbers of the keys that were played.

    Returns:
        dB between medians over frames; negative where another key is louder.
    """
    medians = np.median(presences, axis=0)
    played = np.isin(np.arange(len(medians)) + LOWEST_KEY, list(keys))
    return float(medians[played].min() - medians[~played].max())
