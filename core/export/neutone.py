"""Neutone, a plugin that plays models in DAWs: `write_neutone` writes the file that it loads.

Its SDK, the extra `neutone`, resamples, queues whole latent frames whatever the DAW's buffers are,
reports the delay, and describes the model to the plugin.
"""
# Without `from __future__ import annotations`: TorchScript reads the types of attributes.

import logging
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import core
from core.errors import UsageError
from core.export.live import LiveTranslator, live_translator
from core.files import atomic_write
from core.translator import Translator

try:
    from neutone_sdk import ContinuousNeutoneParameter, WaveformToWaveformBase
    from neutone_sdk.utils import save_neutone_model
except ImportError as error:
    raise UsageError(
        "Neutone's SDK is not installed: install umt with its extra, as in pip install '.[neutone]'"
    ) from error

FURTHEST_SEMITONES = 12.0
LARGEST_GAIN_DB = 24.0
NEAR = 0.04  # of the way between two targets, from one of which only that one is played
LONGEST_NAME, LONGEST_TEXT = 30, 500  # characters that the plugin shows


class Neutone(WaveformToWaveformBase):  # type: ignore[misc]
    """What the plugin calls.

    Args:
        live: The model.
        facts: What the plugin shows of it; see `card_of`.
    """

    def __init__(self, live: LiveTranslator, facts: dict[str, str]) -> None:
        # The SDK's constructor asks for all of these.
        self.targets, self.facts, self.n_targets = live.targets, facts, len(live.targets)
        self.model_rate, self.hop_length, self.delay = live.model_rate, live.hop_length, live.delay
        self.furthest, self.largest_gain_db = FURTHEST_SEMITONES, LARGEST_GAIN_DB
        self.near = NEAR
        super().__init__(live)

    def get_model_name(self) -> str:
        return self.facts["name"]

    def get_model_authors(self) -> list[str]:
        return ["umt"]

    def get_model_short_description(self) -> str:
        return "Plays the notes of any music on another instrument."

    def get_model_long_description(self) -> str:
        return self.facts["description"]

    def get_technical_description(self) -> str:
        return self.facts["technical"]

    def get_tags(self) -> list[str]:
        return ["timbre transfer", "polyphonic"]

    def get_model_version(self) -> str:
        return self.facts["version"]

    def is_experimental(self) -> bool:
        return False

    def get_citation(self) -> str:
        # No links besides: the SDK opens them when a model is saved.
        return "Mor et al. 2019, A Universal Music Translation Network, arXiv 1805.07848"

    def get_neutone_parameters(self) -> list[Any]:
        targets = ", ".join(self.targets)
        return [
            ContinuousNeutoneParameter("instrument", f"{targets}; between two, both", 0.0),
            ContinuousNeutoneParameter("transpose", "An octave down to an octave up", 0.5),
            ContinuousNeutoneParameter("input gain", "-24 to 24 dB", 0.5),
            ContinuousNeutoneParameter("mix", "The input to the translation, in time", 1.0),
        ]

    @torch.jit.export
    def is_input_mono(self) -> bool:
        return True

    @torch.jit.export
    def is_output_mono(self) -> bool:
        return True

    @torch.jit.export
    def get_native_sample_rates(self) -> list[int]:
        return [self.model_rate]

    @torch.jit.export
    def get_native_buffer_sizes(self) -> list[int]:
        return [self.hop_length]

    @torch.jit.export
    def calc_model_delay_samples(self) -> int:
        return self.delay

    def reset_model(self) -> bool:
        self.model.reset()
        return True

    def do_forward_pass(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Translate float [1, hop]."""
        place = float(params["instrument"].clamp(0.0, 1.0)) * (self.n_targets - 1)
        first = min(int(place), max(self.n_targets - 2, 0))
        share = place - first
        if share < self.near:
            share = 0.0
        if share > 1 - self.near:
            share = 1.0
        shares = [0.0] * self.n_targets
        shares[first] = 1.0 - share
        if share > 0:
            shares[first + 1] = share
        self.model.shares = shares
        turn = float(params["transpose"].clamp(0.0, 1.0)) * 2 - 1
        self.model.semitones = float(round(turn * self.furthest))
        gain_db = (float(params["input gain"].clamp(0.0, 1.0)) * 2 - 1) * self.largest_gain_db
        self.model.gain = math.pow(10.0, gain_db / 20)
        self.model.mix = float(params["mix"].clamp(0.0, 1.0))
        result: Tensor = self.model(x)
        return result


def card_of(model: Translator, targets: list[str]) -> dict[str, str]:
    """Return what the plugin shows of a model."""
    name = Path(model.name or "umt").stem
    rate = f"{model.sample_rate / 1000:g} kHz"
    lines = [
        f"Translates what is played into {', '.join(targets)}: its notes stay, chords too, and "
        "their sound is the target's. Turn the first knob from one instrument to the next; between "
        "two, both play. Turn up the input gain for quiet sources."
    ]
    steps = model.training_record.get("steps")
    technical = [
        f"umt {core.__version__}, model {name} ({model.id}), preset {model.config.preset}, {rate}. "
        "One encoder for all instruments finds notes and their pitches; a decoder for each domain "
        "drives a bank of oscillators and noise."
    ]
    if isinstance(steps, int):
        technical.append(f"Trained for {steps:,} updates.")
    return {
        "name": f"umt {name}"[:LONGEST_NAME],
        "version": core.__version__,
        "description": " ".join(lines)[:LONGEST_TEXT],
        "technical": " ".join(technical)[:LONGEST_TEXT],
    }


def write_neutone(
    model: Translator,
    targets: list[str],
    path: Path,
    *,
    overwrite: bool = False,
    seed: int = 0,
    is_submission: bool = False,
) -> LiveTranslator:
    """Write a model that Neutone's plugin loads.

    Args:
        model: The model, with the decoders of the targets.
        targets: Domains to export; the first is played first.
        path: The file, whose name ends in .nm for Neutone.
        overwrite: Whether an existing file is replaced.
        seed: Of random draws.
        is_submission: Whether the SDK runs the checks that it asks of models for its library, and
            renders the samples that the plugin offers; takes a minute.

    Returns:
        What was written.

    Raises:
        UsageError: As `live_translator`.
        FileExistsError: The file exists.
    """
    for name in logging.root.manager.loggerDict:
        if name.startswith("neutone_sdk") and not is_submission:
            logging.getLogger(name).setLevel(logging.WARNING)
    live = live_translator(model, targets, seed=seed)
    own = Neutone(live, card_of(model, live.targets))
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory() as folder,
        atomic_write(path, overwrite=overwrite) as part,
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        save_neutone_model(
            own,
            Path(folder),
            dump_samples=is_submission,
            submission=is_submission,
            speed_benchmark=is_submission,
            test_offline_mode=is_submission,
        )
        part.write_bytes((Path(folder) / "model.nm").read_bytes())
    return live
