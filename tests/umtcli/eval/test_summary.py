"""The sentence on top of a page: what it makes of figures whose meaning is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.score_card import Estimate
from core.evaluation.song import SongFigures
from umtcli.eval.inputs import EvalInput
from umtcli.eval.summary import summary_text

USUAL = {
    "chroma": (0.88, 0.98),
    "onset": (0.61, 0.98),
    "target_probability": (0.72, 0.97),
    "harmonic_share": (0.92, 0.99),
    "spectral_flatness": (0.0, 0.016),
}
GOOD = {
    "chroma": 0.95,
    "onset": 0.9,
    "target_probability": 0.9,
    "harmonic_share": 0.95,
    "spectral_flatness": 0.004,
}


def summary(
    *, level: float = 1.0, heard=None, target="piano", is_unpitched=False, **changes: float
) -> str:
    values = GOOD | changes
    card = {
        name: {
            "translation": Estimate(value, None, None),
            "wrong_piece": Estimate(0.5, None, None),
        }
        for name, value in values.items()
    }
    source = 0.1 * np.ones(44100, np.float32) * np.sin(np.arange(44100) / 9).astype(np.float32)
    own = EvalInput("out.wav", level * source, "in.wav", source, target)
    figures = SongFigures(
        seconds=1.0,
        target=target,
        source_domain="organ",
        heard=heard or {"piano": 0.9, "organ": 0.1},
        source_heard=None,
        source_is_unpitched=is_unpitched,
        card=card,
        usual=USUAL,
        unusual=tuple(changes),
    )
    return summary_text(own, figures)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "The music is kept; it sounds like piano."),
        (
            {"level": 0.5},
            "The music is kept; it sounds like piano; it is 6 dB quieter than the source.",
        ),
        ({"chroma": 0.6, "onset": 0.52}, "The music is lost; it sounds like piano."),
        (
            {"onset": 0.58},
            "The notes are kept, their timing is kept in part; it sounds like piano.",
        ),
        ({"target": None}, "The music is kept; of the known domains it sounds most like piano."),
        (
            {"harmonic_share": 0.8},
            "The music is kept; it sounds like piano, but has less steady tones.",
        ),
        (
            {"harmonic_share": 0.6, "spectral_flatness": 0.5},
            "The music is kept; it is not like a recording of piano: it has less steady tones and "
            "more noise.",
        ),
        (
            {"target_probability": 0.1, "heard": {"piano": 0.1, "organ": 0.9}},
            "The music is kept; it sounds like organ and not like piano.",
        ),
    ],
)
def test_the_sentence_says_what_the_figures_do(changes, text):
    unusual = {name: value for name, value in changes.items() if name in GOOD}
    others = {name: value for name, value in changes.items() if name not in GOOD}
    assert summary(**others, **unusual) == text


def test_a_source_without_pitch_is_named_before_its_figures():
    text = summary(is_unpitched=True)
    assert text.startswith(
        "The source is mostly drums or noise, which no instrument can play; the "
    )
