"""One sentence in plain language on a translation, made of its figures.

In: a piece of audio and its figures. Out: text. A figure within the range that recordings usually
show counts as good; one outside of it counts as lost where it is closer to its worst baseline than
to that range.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from core.audio.levels import measure_level_db
from core.evaluation import EVALUATION_RATE
from core.metrics.catalogue import METRICS, TRANSLATION
from umtcli.eval.tables import UNPITCHED_SOURCE

if TYPE_CHECKING:
    from core.evaluation.song import SongFigures
    from umtcli.eval.inputs import EvalInput

LEVEL_DB = 1.5  # a smaller difference of loudness is not mentioned
MARKS_OF_OTHER_SOUND = 2  # figures outside their range; docs/evaluation.md: true renderings had one

# How audio differs from recordings where a figure is below or above their range.
_DIFFERENCES = {
    "kernel_distance": ("", "another timbre"),
    "frechet_distance": ("", "another timbre"),
    "log_spectral_distance_db": ("", "another spectrum than the true rendering"),
    "clipped_fraction": ("", "clipping"),
    "silence_fraction": ("less silence", "more silence"),
    "spectral_flatness": ("less noise", "more noise"),
    "spectral_contrast_db": ("blurred partials", "sharper partials"),
    "harmonic_share": ("less steady tones", "steadier tones"),
    "out_of_band_share": ("less treble", "more treble"),
}


def summary_text(own: EvalInput, figures: SongFigures) -> str:
    """Return a sentence: is the music kept, does it sound like its target, is it as loud."""
    unpitched = UNPITCHED_SOURCE if figures.source_is_unpitched else ""
    parts = [unpitched, _content_text(figures), _sound_text(figures), _level_text(own)]
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


def _content_text(figures: SongFigures) -> str:
    notes, timing = (_kept_text(figures, name) for name in ("chroma", "onset"))
    if not notes:
        return ""
    if not timing or notes == timing:
        return f"the music is {notes}"
    return f"the notes are {notes}, their timing is {timing}"


def _kept_text(figures: SongFigures, name: str) -> str:
    """Return how much of the source is left by one metric; empty where that is undefined."""
    rows, usual = figures.card.get(name, {}), figures.usual.get(name)
    value = rows[TRANSLATION].value if TRANSLATION in rows else None
    if value is None or usual is None:
        return ""
    if name not in figures.unusual:
        return "kept"
    worst = rows.get(METRICS[name].worst)
    if worst is None or worst.value is None:
        return "not all kept"
    return "lost" if value < (worst.value + usual[0]) / 2 else "kept in part"


def _sound_text(figures: SongFigures) -> str:
    if figures.heard is None:
        return "there is nothing to hear in it"
    likeliest = max(figures.heard, key=figures.heard.__getitem__)
    target = figures.target
    if target is None:
        text = f"of the known domains it sounds most like {likeliest}"
    elif "target_probability" not in figures.unusual:
        text = f"it sounds like {target}"
    elif likeliest == target:
        text = f"it sounds like {target} only in part"
    else:
        text = f"it sounds like {likeliest} and not like {target}"
    marks = [name for name in figures.unusual if name in _DIFFERENCES]
    found = list(dict.fromkeys(filter(None, (_difference(figures, name) for name in marks))))
    if len(marks) < MARKS_OF_OTHER_SOUND:
        return f"{text}, but has {_listed(found)}" if found else text
    # A classifier gives a probability to any sound: what it is most like need not be like it.
    return f"it is not like a recording of {target or likeliest}: it has {_listed(found)}"


def _difference(figures: SongFigures, name: str) -> str:
    value, usual = figures.card[name][TRANSLATION].value, figures.usual[name]
    return _DIFFERENCES[name][int(value is not None and value > usual[1])]


def _listed(phrases: list[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last


def _level_text(own: EvalInput) -> str:
    if own.source is None or not own.source.any() or not own.waveform.any():
        return ""
    output, source = (
        measure_level_db([waveform], EVALUATION_RATE) for waveform in (own.waveform, own.source)
    )
    difference = output - source
    if not LEVEL_DB <= abs(difference) < math.inf:  # silence is infinitely quiet
        return ""
    comparison = "louder" if difference > 0 else "quieter"
    return f"it is {abs(difference):.0f} dB {comparison} than the source"
