"""Configurations: frozen dataclasses, TOML in, JSON stored; `core.presets` has the named ones.

A configuration says everything that a training run depends on apart from its data. The
model file stores it whole, so a model can always be rebuilt from its file alone.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_type_hints

from core.errors import UsageError
from core.parsing import build, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


SHORTEST_SEGMENT_SECONDS = 0.25
# Largest numbers by the end of their names: a configuration of a few bytes, maybe somebody
# else's, must not ask for more memory or time than anybody has.
LARGEST = {
    "sample_rate": 384_000,
    "hop_length": 1 << 16,
    "frame_length": 1 << 14,
    "downsampling": 64,
    "n_fft": 1 << 16,
    "noise_bands": 1 << 12,
    "kernel_size": 1 << 10,
    "latent_dim": 1 << 14,
    "channels": 1 << 14,
    "_hidden": 1 << 14,
    "_cents": 100,
    "_blocks": 16,
    "_layers": 24,
}
# Keys that stored configurations may have and that no longer mean anything.
RETIRED_KEYS = {"training": ("adversarial_weight", "adversarial_start")}


@dataclass(frozen=True)
class WaveNetConfig:
    """The networks of Mor et al. 2019: dilated convolutions on every sample.

    Attributes:
        sample_rate: Hz.
        mu_law: Grid of the 8-bit codes: `round` takes the nearest, `floor` truncates as the
            authors' code does (`core.families.wavenet.mulaw`).
        hop_length: Samples per latent frame, the width of the encoder's average pooling.
        latent_dim: Channels of a latent frame.
        encoder_channels: Channels of the encoder's residual layers.
        encoder_blocks: Blocks of the encoder.
        encoder_layers: Layers per encoder block; layer i has dilation 2**i.
        encoder_leading_relu: Whether an encoder layer begins with a ReLU. The paper's text
            says so; the published weights were trained without it.
        residual_channels: Channels of the decoder's residual path.
        skip_channels: Channels of the decoder's skip sum.
        decoder_blocks: Blocks of the decoder.
        decoder_layers: Layers per decoder block; layer i has dilation 2**i.
        checkpoint_activations: Whether a decoder's blocks are computed again in the backward
            pass instead of being kept, for memory.
        history_noise_share: Share of training items whose past has white noise, so that the decoder
            has to use the latents (`core.families.wavenet.history`); 0 in the paper.
        history_noise_db: Quietest and loudest of that noise, relative to the item's level.
        history_gap_share: Share of training items whose past has gaps of silence.
        history_gap_seconds: Shortest and longest gap, and stretch between two.
        spectrum_weight: Weight, in the decoders' loss, of predicting the original's spectrum from
            the latents (`core.families.wavenet.spectrum`); 0 in the paper.
    """

    family: ClassVar[str] = "wavenet"

    sample_rate: int = 16000
    mu_law: Literal["round", "floor"] = "round"
    hop_length: int = 800
    latent_dim: int = 64
    encoder_channels: int = 128
    encoder_blocks: int = 3
    encoder_layers: int = 10
    encoder_leading_relu: bool = True
    residual_channels: int = 128
    skip_channels: int = 128
    decoder_blocks: int = 4
    decoder_layers: int = 10
    checkpoint_activations: bool = False
    history_noise_share: float = 0.0
    history_noise_db: tuple[float, float] = (-30.0, 10.0)
    history_gap_share: float = 0.0
    history_gap_seconds: tuple[float, float] = (0.01, 0.1)
    spectrum_weight: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self, "model")
        if self.history_noise_db[0] > self.history_noise_db[1]:
            raise _impossible("model", "history_noise_db", self.history_noise_db, "first <= second")
        shortest, longest = self.history_gap_seconds
        if not 0 < shortest <= longest:
            value = self.history_gap_seconds
            raise _impossible("model", "history_gap_seconds", value, "0 < first <= second")


# What the search for notes that the package brings was built and trained with.
PRETRAINED_SALIENCE = {
    "salience_channels": 32,
    "downsampling": 2,
    "explains_overtones": True,
    "score_weight": 0.0,
}


@dataclass(frozen=True)
class SpectralConfig:
    """Feed-forward networks on spectrogram frames that drive oscillators and noise.

    Attributes:
        sample_rate: Hz.
        frame_length: Samples between spectrogram frames.
        downsampling: Spectrogram frames per latent frame.
        latent_dim: Channels of a latent frame; the first 176 say of each of the piano's 88 keys how
            present it is, and whether it begins.
        pitch_latents: Whether the next 88 give each key's deviation from equal temperament, in
            semitones. Models from before they existed have none, and play in tune with 440 Hz.
        n_fft: Length of the decoder's inverse FFT, in samples; its bins are the oscillators.
        partials_ceiling_hz: Highest oscillator; above it there is only noise.
        noise_bands: Bands of the decoder's noise.
        salience_channels: Channels of the encoder's search for notes.
        encoder_channels: Channels of the encoder's ConvNeXt blocks.
        encoder_hidden: Channels inside an encoder block.
        encoder_layers: Blocks of the encoder.
        voice_channels: Channels of the decoder's network for notes over time.
        decoder_channels: Channels of the decoder's ConvNeXt blocks.
        decoder_hidden: Channels inside a decoder block.
        decoder_layers: Blocks of the decoder.
        kernel_size: Frames seen by a block's depthwise convolution.
        causal: Whether all of these lie in the past: a model that plays along then hears 0.16 s
            ahead and not 0.6. Spectrogram windows reach ahead all the same.
        latent_noise: Standard deviation of the noise added to latents in training.
        attack_weight: Of the distance between attacks in the decoders' loss; 0 for none.
        score_weight: Of the distance between the encoder's presences and the score, where there is
            one; 0 for none.
        explains_overtones: Whether the encoder looks twice for notes, to tell them from overtones
            of lower ones.
        pretrained_salience: Whether the encoder's search for notes is the one that the package
            brings, trained on scores; it then stays as it is.
        shimmer: Whether the levels of partials sway as far as those of the domain's recordings do.
        strike_noise: Whether notes begin with a noise that falls faster than they do.
    """

    family: ClassVar[str] = "spectral"

    sample_rate: int = 44100
    frame_length: int = 512
    downsampling: int = 2
    latent_dim: int = 216
    pitch_latents: bool = False
    n_fft: int = 2048
    partials_ceiling_hz: float = 10_000.0
    noise_bands: int = 64
    salience_channels: int = 32
    encoder_channels: int = 256
    encoder_hidden: int = 512
    encoder_layers: int = 6
    voice_channels: int = 16
    decoder_channels: int = 256
    decoder_hidden: int = 512
    decoder_layers: int = 6
    kernel_size: int = 7
    causal: bool = False
    latent_noise: float = 0.05
    attack_weight: float = 1.5
    score_weight: float = 0.0
    explains_overtones: bool = False
    pretrained_salience: bool = False
    shimmer: bool = False
    strike_noise: bool = False

    def __post_init__(self) -> None:
        lowest = {
            "sample_rate": 4000,
            "latent_dim": self.key_channels + 1,  # something must be left for everything else
            "n_fft": 2 * self.frame_length,
            "partials_ceiling_hz": self.sample_rate / self.n_fft if self.n_fft else 0,
        }
        _check_numbers(self, "model", **lowest)
        if self.n_fft % self.frame_length or self.n_fft % 2:
            raise _impossible("model", "n_fft", self.n_fft, "an even multiple of frame_length")
        if self.kernel_size % 2 == 0:
            raise _impossible("model", "kernel_size", self.kernel_size, "an odd number")
        if self.hop_length > LARGEST["hop_length"]:
            accepted = f"{LARGEST['hop_length']:,} or less with frame_length"
            raise _impossible("model", "downsampling", self.downsampling, accepted)
        if self.pretrained_salience:
            for name, wanted in PRETRAINED_SALIENCE.items():
                if getattr(self, name) != wanted:
                    value = getattr(self, name)
                    accepted = f"{str(wanted).lower()} with pretrained_salience = true"
                    raise _impossible("model", name, value, accepted)

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return self.frame_length * self.downsampling

    @property
    def key_channels(self) -> int:
        """Latent channels that belong to the piano's 88 keys."""
        return 88 * (3 if self.pitch_latents else 2)


ModelConfig = WaveNetConfig | SpectralConfig
MODEL_CONFIGS: dict[str, type[WaveNetConfig] | type[SpectralConfig]] = {
    config.family: config for config in (WaveNetConfig, SpectralConfig)
}


@dataclass(frozen=True)
class ConfusionConfig:
    """The domain confusion network and what the encoder does against it.

    Attributes:
        channels: Width of the classifier's three hidden layers.
        kernel_size: Latent frames that each of them sees (paper, 1), an odd number.
        weight: Lambda of the paper: the confusion term's share in the encoder's loss.
        objective: `negated`, the paper's minus cross entropy, or `uniform`, the cross
            entropy of the classifier's output against the uniform distribution.
    """

    channels: int = 100
    kernel_size: int = 1
    weight: float = 0.01
    objective: Literal["negated", "uniform"] = "negated"

    def __post_init__(self) -> None:
        _check_numbers(self, "confusion")
        if self.kernel_size % 2 == 0:
            raise _impossible("confusion", "kernel_size", self.kernel_size, "an odd number")


@dataclass(frozen=True)
class DistortionConfig:
    """What the encoder hears instead of the original in training; zero turns a part off.

    Attributes:
        pitch_semitones: Largest shift of a segment, up or down (paper, 0.5).
        pitch_segment_seconds: Shortest and longest length of the shifted segment.
        equalizer_db: Largest boost or cut of a random smooth frequency response.
        noise_db: Loudest added white noise relative to the signal's level; 0 for none.
        room_seconds: Longest decay (to -60 dB) of an added synthetic room; 0 for none.
        gain_db: Largest change of level, applied to input and target alike.
        reshape_share: How often notes that the encoder hears from the domain itself get another
            course of loudness (`core.data.envelope_augmentation`).
        take_share: How often the encoder hears another instrument's take of the same
            performance, where there are takes.
        detune_cents: Largest change of tuning, up or down, applied to input and target alike by
            playing both faster or slower.
    """

    pitch_semitones: float = 0.5
    pitch_segment_seconds: tuple[float, float] = (0.25, 0.5)
    equalizer_db: float = 0.0
    noise_db: float = 0.0
    room_seconds: float = 0.0
    gain_db: float = 0.0
    reshape_share: float = 0.0
    take_share: float = 0.0
    detune_cents: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self, "distortion", noise_db=-math.inf)
        shortest, longest = self.pitch_segment_seconds
        if not 0 < shortest <= longest:
            value = self.pitch_segment_seconds
            raise _impossible("distortion", "pitch_segment_seconds", value, "0 < first <= second")


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: Optimizer updates of a whole run.
        batch_size: Items of an update, over all processes and domains.
        domains_per_step: Domains whose items share an update; they take turns.
        segment_seconds: Length of an item.
        learning_rate: Adam's learning rate.
        schedule: `exponential` multiplies it by `decay` every `decay_steps` updates (the
            paper); `linear` falls evenly to zero at the last step (Defazio et al. 2023,
            arXiv 2310.07831).
        decay: See `schedule`.
        decay_steps: See `schedule`.
        betas: Adam's moment decays.
        weight_decay: Decoupled weight decay.
        clip_value: Largest absolute gradient value; 0 for no limit.
        clip_norm: Largest gradient norm; 0 for no limit.
        accumulate: Parts that a process works on one after the other to make up an update, for
            memory; the encoder then runs twice.
        validate_steps: Updates between validations; the model file is written then.
        validation_items: Items per domain of a validation.
        seed: Seed of the weights, the items and the noise.
    """

    steps: int = 1_000_000
    batch_size: int = 16
    domains_per_step: int = 1
    segment_seconds: float = 1.0
    learning_rate: float = 1e-3
    schedule: Literal["exponential", "linear"] = "exponential"
    decay: float = 0.98
    decay_steps: int = 10_000
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    validate_steps: int = 1000
    validation_items: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        _check_numbers(self, "training", seed=0, segment_seconds=SHORTEST_SEGMENT_SECONDS)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise _impossible("training", "betas", self.betas, "0 <= beta < 1")


@dataclass(frozen=True)
class Config:
    """Everything a training run depends on apart from its data."""

    preset: str
    model: ModelConfig
    confusion: ConfusionConfig = field(default_factory=ConfusionConfig)
    distortion: DistortionConfig = field(default_factory=DistortionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def segment_length(self) -> int:
        """Samples of an item: whole latent frames, at least one."""
        wanted = self.training.segment_seconds * self.model.sample_rate
        return max(1, round(wanted / self.model.hop_length)) * self.model.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` reads them back."""
        values = dataclasses.asdict(self)
        values["model"]["family"] = self.model.family
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Build a configuration from `to_dict`'s result, also from one that has retired keys.

        Raises:
            UsageError: A key is unknown, or a value is of the wrong type or out of range.
        """
        sections = dict(values)
        for name in ("model", *_SECTIONS):
            if not isinstance(sections.setdefault(name, {}), dict):
                raise UsageError(f"[{name}] = {shortened(sections[name])}: expected a table")
        model = dict(sections.pop("model"))
        family = model.pop("family", None)
        if not isinstance(family, str) or family not in MODEL_CONFIGS:
            known = ", ".join(MODEL_CONFIGS)
            raise UsageError(f"unknown model family {shortened(family)}; known: {known}")
        preset = sections.pop("preset", "custom")
        if not isinstance(preset, str):
            raise UsageError(f"preset = {shortened(preset)}: expected a text")
        built: dict[str, Any] = {
            name: build(
                kind,
                sections.pop(name),
                f"[{name}] ",
                error=UsageError,
                ignored=RETIRED_KEYS.get(name, ()),
            )
            for name, kind in _SECTIONS.items()
        }
        if sections:
            raise UsageError(f"unknown configuration section {shortened(min(sections))}")
        kinds: dict[str, type[ModelConfig]] = dict(MODEL_CONFIGS)
        return cls(preset, build(kinds[family], model, "[model] ", error=UsageError), **built)

    def updated(self, section: str, **changes: Any) -> Config:
        """Return a copy with some values of one section changed, checked like a file's.

        Example:
            >>> Config("mine", SpectralConfig()).updated("training", steps=100).training.steps
            100
        """
        values = self.to_dict()
        values[section] |= changes
        return Config.from_dict(values)


_SECTIONS: dict[str, type[ConfusionConfig | DistortionConfig | TrainingConfig]] = {
    "confusion": ConfusionConfig,
    "distortion": DistortionConfig,
    "training": TrainingConfig,
}


def _check_numbers(config: Any, section: str, **lowest: float) -> None:
    """Raise unless the numbers of a section are large enough, and not too large.

    Integers are counts of 1 or more and other numbers 0 or more where `lowest` has no entry.
    """
    for name, hint in get_type_hints(type(config)).items():
        if hint in (int, float):
            value, least = getattr(config, name), lowest.get(name, 1 if hint is int else 0)
            if value < least:
                raise _impossible(section, name, value, f"{least:g} or more")
            for ending, most in LARGEST.items():
                if name.endswith(ending) and value > most:
                    raise _impossible(section, name, value, f"{most:,} or less")


def _impossible(section: str, name: str, value: object, accepted: str) -> UsageError:
    return UsageError(f"[{section}] {name} = {value}: expected {accepted}")


def read_config(path: Path, base: Config) -> Config:
    """Read a TOML file that changes some values of a preset.

    The file's tables are `[model]`, `[confusion]`, `[distortion]` and `[training]`.

    Args:
        path: The TOML file.
        base: The preset whose values hold where the file says nothing.

    Raises:
        UsageError: The file cannot be read, or has an unknown key or a wrong type.
    """
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot read this configuration: {error}") from error
    values = base.to_dict()
    for section, table in changes.items():
        if not isinstance(table, dict) or not isinstance(values.get(section), dict):
            known = ", ".join(f"[{name}]" for name in ("model", *_SECTIONS))
            raise UsageError(f"{path}: unknown entry {section!r}; known tables: {known}")
        for key in RETIRED_KEYS.get(section, ()):
            if key in table:
                raise UsageError(f"{path}: [{section}] {key} does nothing any more; remove it")
        values[section] |= table
    try:
        return Config.from_dict(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
