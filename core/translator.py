"""The translator: one shared encoder, one decoder per domain, in one file.

In: waveforms. Out: latents, and waveforms of another domain. This is the object for using
a model; it holds no losses and no optimizers.
"""

from __future__ import annotations

import logging
import math
import os
from contextlib import ExitStack, closing
from dataclasses import asdict, fields
from itertools import tee
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import core
from core.audio.downmix import MonoRecording
from core.audio.levels import (
    GUARD_SECONDS,
    LIVE_GUARD_SECONDS,
    ArrayRecording,
    guard_peaks,
    level_input,
)
from core.audio.loudness import (
    RUNNING_SECONDS,
    LevelMatching,
    LoudnessMeter,
    match_live,
    match_running,
    match_whole,
)
from core.audio.percussion import split_percussion
from core.audio.provenance import Provenance, file_sha256
from core.audio.reader import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, open_audio
from core.audio.resampling import resample_blocks
from core.audio.writer import open_writer, output_format
from core.config import Config
from core.confusion import DomainClassifier
from core.devices import resolve_device
from core.errors import AudioError, LatentsError, ModelError, UsageError
from core.families import FAMILY_NAMES, get_family
from core.files import atomic_write
from core.latents import as_array, as_latents, to_array, to_frames
from core.model_file import (
    ModelHeader,
    find_domain,
    locate_model,
    open_model,
    parse_target,
    part_of,
    target_name,
    write_model,
)
from core.parsing import shortened
from core.streams import (
    AudioStream,
    CountedRecording,
    LatentStream,
    mix_with_recording,
    silence,
)

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from numpy.typing import ArrayLike, NDArray

    from core.audio.levels import Recording
    from core.audio.wav import Bits
    from core.families.base import Decoder, Encoder, GenerationOptions

    Array = NDArray[np.float32]

_logger = logging.getLogger(__name__)

WINDOW_SECONDS = 15.0  # worked on at a time; bounds the memory of a long piece
LIVE_FRAMES = 2  # latent frames at a time; one by one they take twice the processor time
DEFAULT_LEVEL_DB = -20.0  # dBFS; the training level of a model that has seen no data
LARGEST_SAMPLE = 16.0  # beyond, floats are integers that nobody has scaled


class Decoders(nn.Module):
    """Decoders by domain name; their state-dict keys are `NAME.…`.

    Not an `nn.ModuleDict`, which refuses names that it has methods or attributes of, such as
    `train` and `keys`.
    """

    def __init__(self, decoders: Mapping[str, Decoder[GenerationOptions]]) -> None:
        super().__init__()
        self.names = tuple(decoders)
        self.networks = nn.ModuleList(decoders.values())
        self.register_state_dict_post_hook(_key_by_name)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_key_by_index)  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Decoder[GenerationOptions]:
        return cast("Decoder[GenerationOptions]", self.networks[self.names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.names


def _key_by_name(
    decoders: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object
) -> None:
    """Rename `networks.INDEX.…` to `NAME.…`, as stored models have it."""
    assert isinstance(decoders, Decoders)
    start = f"{prefix}networks."
    renamed = {}
    for key in [key for key in state if key.startswith(start)]:
        index, rest = key.removeprefix(start).split(".", 1)
        renamed[f"{prefix}{decoders.names[int(index)]}.{rest}"] = state.pop(key)
    state.update(renamed)  # at once: a domain may be called "networks"


def _key_by_index(decoders: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Undo `_key_by_name`."""
    assert isinstance(decoders, Decoders)
    renamed = {}
    for key in [key for key in state if key.startswith(prefix)]:
        name, rest = key.removeprefix(prefix).split(".", 1)
        if name in decoders.names:
            index = decoders.names.index(name)
            renamed[f"{prefix}networks.{index}.{rest}"] = state.pop(key)
    state.update(renamed)


class _ShapesOnly(TorchFunctionMode):
    """Gives new parameters a shape and no memory, and draws no values for them.

    Not `torch.device("meta")`, under which computing a module's constants and initial values
    imports torch's compiler: 1.2 s.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        named = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else named["tensor"]
        if func is torch.empty:
            named["device"] = "meta"
        return func(*args, **named)


class Translator(nn.Module):
    """A model of K domains.

    Attributes:
        config: What the model was built from.
        domains: Names of all domains that the model knows, in the order of their ids.
        encoder: Shared encoder.
        decoders: One decoder per domain; only those asked for when loaded from a file.
        classifier: The domain confusion network.
        classified: Domains that it tells apart, the first of all domains: those that were
            added later to the trained encoder are not among them.
        stored_as: Parts that `save` writes with a type of their own: those that come from
            another file and are to stay the same bit for bit.
        level_db: Mean level of the prepared recordings, dBFS; None to leave inputs as they are.
        training_record: Where the weights come from; plain JSON types.
        window_seconds: How much is decoded at a time where nobody waits for it. It changes memory
            and speed, and no result by more than rounding.
        id: Hash of configuration and weights, set by `save` and `load`.
        name: What it was loaded by: a path, or a bundled name; "" for one made here.
    """

    def __init__(
        self,
        config: Config,
        domains: Iterable[str],
        built: Iterable[str],
        *,
        classified: Iterable[str] | None = None,
    ) -> None:
        """Build the networks with fresh weights.

        Args:
            config: The configuration.
            domains: All domains of the model.
            built: Those that get a decoder.
            classified: Those that the classifier tells apart; None for all.
        """
        super().__init__()
        self.config = config
        self.domains = tuple(domains)
        self.family_description = get_family(config.model.family)
        self.encoder: Encoder = self.family_description.encoder(config.model)
        self.decoders = Decoders(
            {name: self.family_description.decoder(config.model) for name in built}
        )
        self.classified = self.domains if classified is None else tuple(classified)
        self.classifier = DomainClassifier(
            config.model.latent_dim, len(self.classified), config.confusion
        )
        self.stored_as: dict[str, torch.dtype] = {}
        self.level_db: float | None = DEFAULT_LEVEL_DB
        self.training_record: dict[str, Any] = {}
        self.window_seconds = WINDOW_SECONDS
        self._reported_mono = False
        self.id = "untrained"
        self.name = ""

    def __repr__(self) -> str:
        return (
            f"Translator(family={self.config.model.family!r}, sample_rate={self.sample_rate}, "
            f"domains={self.decoders.names}, device={str(self.device)!r})"
        )

    @classmethod
    def create(cls, config: Config, domains: Iterable[str], *, seed: int = 0) -> Translator:
        """Return a model with random weights.

        Args:
            config: The configuration.
            domains: Names; sorted, so that ids do not depend on the order given.
            seed: Seed of the weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            names = sorted(domains)
            return cls(config, names, names)

    @classmethod
    def load(
        cls, source: str | Path, *, domains: Iterable[str] | None = None, device: str = "cpu"
    ) -> Translator:
        """Load a model file; runs no code from it.

        Args:
            source: The file, the directory of a training run, a bundled name ("starter"), or
                "hf:owner/name[@revision][/file]" on the Hugging Face Hub.
            domains: Decoders to load; None for all, empty for the encoder alone.
            device: "auto", "cpu", "cuda" or "cuda:N".

        Raises:
            ModelError: The file is damaged, or newer than this program.
            UsageError: There is no such model or device, or the model lacks a domain.
        """
        chosen = resolve_device(device)
        path = locate_model(os.fspath(source)).path
        with open_model(path) as file:
            header = file.header
            config = Config.from_dict(header.config)
            names = header.domains if domains is None else domains
            wanted = tuple(dict.fromkeys(find_domain(name, header.domains) for name in names))

            def build() -> Translator:
                return cls(config, header.domains, wanted, classified=header.classified)

            # A small file can announce networks of any size: compare before memory is taken.
            with _ShapesOnly():
                expected = build().state_dict()
            for name, tensor in expected.items():
                if file.shape(name) != tuple(tensor.shape):
                    raise ModelError(
                        f"{path}: damaged: {name} has shape {file.shape(name)}, and its "
                        f"configuration makes that {tuple(tensor.shape)}"
                    )
            stored = file.read(expected.keys())
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, only to be replaced
            model = build()
        model.load_state_dict(
            {name: torch.from_numpy(values).float() for name, values in stored.items()}
        )
        model.level_db = header.level_db
        model.training_record = header.training
        model.id = header.id
        model.name = os.fspath(source)
        return model.eval().requires_grad_(requires_grad=False).to(chosen)

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the model file, complete or not at all.

        Args:
            path: The file; its directory exists.
            dtype: How weights are stored, torch.float32 or torch.float16; they are always
                computed with in float32.

        Raises:
            OSError: The file cannot be written.
        """
        tensors = {
            name: tensor.detach().to("cpu", self.stored_as.get(part_of(name), dtype)).numpy()
            for name, tensor in self.state_dict().items()
        }
        model = self.config.model
        header = ModelHeader(
            family=model.family,
            preset=self.config.preset,
            domains=self.domains,
            sample_rate=model.sample_rate,
            hop_length=model.hop_length,
            latent_dim=model.latent_dim,
            level_db=self.level_db,
            config=self.config.to_dict(),
            training=self.training_record,
            checksums={},
            classified=self.classified,
        )
        self.id = write_model(Path(path), tensors, header)

    @property
    def sample_rate(self) -> int:
        """Rate of the model's audio, Hz."""
        return self.config.model.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return self.config.model.hop_length

    @property
    def latent_dim(self) -> int:
        """Channels of a latent frame."""
        return self.config.model.latent_dim

    @property
    def latent_rate(self) -> float:
        """Latent frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.encoder.parameters()).device

    def generation_options(self, given: Mapping[str, object]) -> GenerationOptions:
        """Check and fill in the generation options of this model's family.

        Args:
            given: Options by name, for example `{"temperature": 0.9}`.

        Raises:
            UsageError: An option belongs to another family or has an impossible value.
        """
        known = {item.name for item in fields(self.family_description.options)}
        for name in given:
            if name not in known:
                owners = [
                    family
                    for family in FAMILY_NAMES
                    if name in {item.name for item in fields(get_family(family).options)}
                ]
                raise UsageError(
                    f"{name} is an option of {' and '.join(owners) or 'no'} models, "
                    f"and this one is {self.config.model.family}"
                )
        return self.family_description.build_options(given)

    def encode(self, waveform: ArrayLike, sample_rate: int) -> Array:
        """Encode a waveform that fits into memory.

        Quiet audio is brought up to the training level first, as the commands do.

        Args:
            waveform: Samples [T], or [2, T] of two channels, floats in -1..1, or int16 or int32,
                which are scaled as in WAV files; an array, a list or a tensor. Models of the
                WaveNet family mix two channels.
            sample_rate: Its rate in Hz; resampled if it is not the model's.

        Returns:
            Latents, float32 [L, D], or [2, L, D] of two channels.

        Raises:
            AudioError: The waveform has another shape or type, or is out of range or not finite.
        """
        return self._joined_latents(self.encode_stream(as_waveform(waveform, sample_rate)))

    def decode(
        self,
        latents: ArrayLike,
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        transpose: float = 0.0,
    ) -> Array:
        """Decode latents into a domain; peaks above full scale are lowered.

        Args:
            latents: Finite floats [L, D], or [2, L, D] of two channels; an array, a list or a
                tensor.
            to: The domain, or several with their shares in a sum: "piano:0.7,strings:0.3".
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents.

        Returns:
            Waveform, float32 [L * hop_length] or [2, L * hop_length], in -1..1, at the model's
            rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels or another type.
        """
        stream = _stream_of(as_latents(latents))
        return _joined_waveform(
            self.decode_streams([stream], to=to, seed=seed, options=options, transpose=transpose)
        )

    def translate(
        self,
        waveform: ArrayLike,
        sample_rate: int,
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        match_level: bool = True,
        transpose: float = 0.0,
    ) -> Array:
        """Translate a waveform into a domain.

        Without `match_level` the samples are those of `decode(encode(...))`, cut to the length of
        the input.

        Args:
            waveform: As for `encode`.
            sample_rate: As for `encode`.
            to: As for `decode`.
            seed: As for `decode`.
            options: As for `decode`.
            match_level: Whether the result is brought to the loudness of the input (ITU-R
                BS.1770), which latents do not keep.
            transpose: As for `decode`.

        Returns:
            Waveform, float32 [T] or [2, T] in -1..1, at the model's rate; as long as the input.

        Raises:
            AudioError: As for `encode`.
            UsageError: As for `decode`.
        """
        recording = as_waveform(waveform, sample_rate)
        return _joined_waveform(
            self.translate_streams(
                [recording],
                to=to,
                seed=seed,
                options=options,
                match_level="whole" if match_level else "off",
                transpose=transpose,
            )
        )

    def encode_batch(self, waveforms: Iterable[ArrayLike], sample_rate: int) -> list[Array]:
        """Encode several waveforms of any lengths, each as `encode` does.

        Args:
            waveforms: Each as for `encode`.
            sample_rate: As for `encode`, of all of them.

        Returns:
            Latents, float32 [L, D] or [2, L, D] each.

        Raises:
            AudioError: As for `encode`; nothing was encoded then.
        """
        recordings = [as_waveform(waveform, sample_rate) for waveform in waveforms]
        return [self._joined_latents(self.encode_stream(own)) for own in recordings]

    def decode_batch(
        self,
        latents: Iterable[ArrayLike],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        transpose: float = 0.0,
    ) -> list[Array]:
        """Decode several arrays of latents of any lengths, each as `decode` does.

        Models of the WaveNet family work on several at a time, which is faster.

        Args:
            latents: Each as for `decode`.
            to: As for `decode`.
            seed: As for `decode`, the same for each.
            options: As for `decode`.
            transpose: As for `decode`.

        Returns:
            Waveforms, float32 [L * hop_length] or [2, L * hop_length] each.

        Raises:
            UsageError: As for `decode`.
            LatentsError: As for `decode`; nothing was decoded then.
        """
        streams = [_stream_of(as_latents(own)) for own in latents]
        return _joined_waveforms(
            self.decode_streams(streams, to=to, seed=seed, options=options, transpose=transpose)
        )

    def translate_batch(
        self,
        waveforms: Iterable[ArrayLike],
        sample_rate: int,
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        match_level: bool = True,
        transpose: float = 0.0,
    ) -> list[Array]:
        """Translate several waveforms of any lengths, each as `translate` does.

        Models of the WaveNet family work on several at a time, which is faster.

        Args:
            waveforms: Each as for `encode`.
            sample_rate: As for `encode`, of all of them.
            to: As for `decode`.
            seed: As for `decode`, the same for each.
            options: As for `decode`.
            match_level: As for `translate`.
            transpose: As for `decode`.

        Returns:
            Waveforms, float32 [T] or [2, T] each, at the model's rate; as long as the inputs.

        Raises:
            AudioError: As for `encode`; nothing was translated then.
            UsageError: As for `decode`.
        """
        recordings = [as_waveform(waveform, sample_rate) for waveform in waveforms]
        return _joined_waveforms(
            self.translate_streams(
                recordings,
                to=to,
                seed=seed,
                options=options,
                match_level="whole" if match_level else "off",
                transpose=transpose,
            )
        )

    def translate_file(
        self,
        path: str | Path,
        *,
        to: str,
        output: str | Path | None = None,
        sample_rate: int | None = None,
        bits: Bits | None = None,
        mono: bool = False,
        match_level: bool = True,
        transpose: float = 0.0,
        mix: float = 1.0,
        seed: int = 0,
        options: GenerationOptions | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Translate a file of any length, as `umt translate` does.

        Args:
            path: Audio of any format, rate and number of channels.
            to: As for `decode`.
            output: The file to write, in a directory that exists; its extension chooses the
                format. By default it is called STEM.DOMAIN.wav (of several STEM.ONE+OTHER.wav), in
                the working directory.
            sample_rate: Of the output in Hz; None for the model's.
            bits: Of a sample: "16", "24" or "float"; None for 16, or whatever the format has.
            mono: Whether two channels are mixed; other numbers are anyway.
            match_level: As for `translate`.
            transpose: As for `decode`.
            mix: As for `decode_streams`.
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.
            overwrite: Whether an existing output is replaced.

        Returns:
            The output.

        Raises:
            AudioError: The input cannot be read, or the output exists or cannot be written.
            UsageError: The domain is unknown or was not loaded, or the format is not known.
        """
        target = Path(f"{Path(path).stem}.{target_name(to)}.wav" if output is None else output)
        extension = output_format(target, rate=sample_rate, bits=bits)
        with open_audio(path, mono=mono) as recording:
            made = self.translate_streams(
                [recording],
                to=to,
                seed=seed,
                options=options,
                sample_rate=sample_rate,
                match_level="whole" if match_level else "off",
                transpose=transpose,
                mix=mix,
            )
            provenance = Provenance(
                tool=f"umt {core.__version__}",
                model_id=self.id,
                model=self.name,
                domain=to,
                seed=seed,
                options=asdict(self.generation_options({}) if options is None else options),
                start_seconds=0.0,
                seconds=None,
                source=os.fspath(path),
                source_sha256=file_sha256(path) if Path(path).is_file() else None,
            )
            try:
                with closing(made), atomic_write(target, overwrite=overwrite) as part:
                    audio = next(made)
                    with open_writer(
                        part,
                        sample_rate=audio.sample_rate,
                        n_channels=audio.n_channels,
                        n_samples=audio.n_samples,
                        provenance=provenance,
                        tags=recording.tags,
                        format=extension,
                        name=str(target),
                        bits=bits,
                    ) as writer:
                        for block in audio.blocks:
                            writer.write(block)
            except FileExistsError as error:
                raise AudioError(f"{target} exists; pass overwrite=True to replace it") from error
            except OSError as error:
                raise AudioError(f"{target}: cannot be written ({error.strerror})") from error
        return target

    def encode_stream(
        self, recording: Recording, *, is_live: bool = False, drop_drums: bool = False
    ) -> LatentStream:
        """Encode a recording of any length as it arrives, brought to the training level.

        Nothing is read before the first block is taken. Two channels are mixed for a family that
        plays one, and a warning is logged.

        Args:
            recording: For example an `AudioInput` of `core.audio.reader.open_audio`.
            is_live: Whether the result is heard while the recording is played. It is then encoded
                frame by frame, and its gain follows what is heard; else a pipe's first seconds of
                sound are waited for.
            drop_drums: Whether only the harmonic part is encoded; see `core.audio.percussion`.
        """
        if recording.is_stereo and not self.family_description.is_stereo:
            if not self._reported_mono:
                _logger.warning(
                    "%s models are mono: stereo input is mixed", self.config.model.family
                )
            self._reported_mono = True
            recording = MonoRecording(recording)
        loudness = LoudnessMeter()
        stream = LatentStream(
            iter(()),
            recording.sample_rate,
            recording.n_samples,
            recording=None if recording.is_live else recording,
            n_channels=2 if recording.is_stereo else 1,
            loudness=loudness,
        )
        counted = CountedRecording(recording, stream, None if drop_drums else loudness)

        def encoded() -> Iterator[Array]:
            levelled = level_input(counted, self.sample_rate, self.level_db, follows=is_live)
            stream.gain_db, stream.n_samples = levelled.gain_db, recording.n_samples
            blocks = levelled.blocks
            if drop_drums:
                blocks = (own for own, _ in split_percussion(blocks, self.sample_rate))
                blocks = self._measured(blocks, loudness, levelled.gain_db or 0.0)
            yield from self.encode_blocks(blocks, is_live=is_live)

        stream.blocks = encoded()
        return stream

    def _measured(
        self, blocks: Iterator[Array], loudness: LoudnessMeter, gain_db: float
    ) -> Iterator[Array]:
        """Pass blocks on, and measure them as they were before they were raised."""
        for block in blocks:
            loudness.push(block * np.float32(10 ** (-gain_db / 20)), self.sample_rate)
            yield block

    def decode_streams(
        self,
        streams: Sequence[LatentStream],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        sample_rate: int | None = None,
        mix: float = 1.0,
        keep_drums: bool = False,
        match_level: LevelMatching = "whole",
        transpose: float = 0.0,
    ) -> Generator[AudioStream]:
        """Decode several streams of latents: peaks lowered, cut to their audio's length.

        Args:
            streams: Of latents, each to be taken once.
            to: The domain.
            seed: Seed of random draws, the same for each.
            options: From `generation_options`; None for the defaults.
            sample_rate: Of the waveforms in Hz, which get as many samples as their recording has
                at that rate; None for the model's.
            mix: Share of the translation in the result, 0 to 1; the rest is the recording, aligned
                to the sample and at its own level.
            keep_drums: Whether the recording's percussive part is in the result whole, likewise.
            match_level: How results are brought to the loudness of what was encoded, of streams
                that were encoded here: "whole" by one gain, for which the decoded waveform is
                stored on the disk; "running" by a gain that follows, so that the first block can
                be heard before the last one is made; "off" not. What is live never waits.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents.

        Yields:
            The waveform of each, to be taken before that of the next; errors as `decode_all`.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: Where a waveform is taken: its latents have another number of channels.
            AudioError: A sample rate that is none.
        """
        if not 0 <= mix <= 1:
            raise UsageError(f"mix {mix:g}: expected the translation's share, 0 to 1")
        if (mix < 1 or keep_drums) and any(stream.recording is None for stream in streams):
            what = "keep_drums" if keep_drums else "mix"
            raise UsageError(f"{what} needs a recording that can be read again: a file, not a pipe")
        if sample_rate is not None:
            _check_sample_rate(sample_rate)
        made = self.decode_all(
            [stream.blocks for stream in streams],
            to=to,
            seed=seed,
            options=options,
            transpose=transpose,
        )
        with closing(made):
            for stream, blocks in zip(streams, made, strict=True):
                audio = AudioStream(iter(()), stream, sample_rate or self.sample_rate)
                matching = "off" if stream.loudness is None else match_level
                is_live = options is not None and options.is_live
                audio.is_matched = matching != "off"
                audio.blocks = self._finished(
                    self._matched(blocks, audio, matching, is_live=is_live),
                    audio,
                    mix,
                    keep_drums=keep_drums,
                    is_live=is_live,
                )
                yield audio

    def translate_streams(
        self,
        recordings: Iterable[Recording],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        sample_rate: int | None = None,
        mix: float = 1.0,
        keep_drums: bool = False,
        drop_drums: bool = False,
        match_level: LevelMatching = "whole",
        transpose: float = 0.0,
    ) -> Generator[AudioStream]:
        """Translate several recordings of any length as they arrive.

        Args:
            recordings: As for `encode_stream`.
            to: As for `decode_streams`.
            seed: As for `decode_streams`.
            options: As for `decode_streams`.
            sample_rate: As for `decode_streams`.
            mix: As for `decode_streams`.
            keep_drums: As for `decode_streams`; only the rest is encoded then.
            drop_drums: As for `encode_stream`.
            match_level: As for `decode_streams`.
            transpose: As for `decode_streams`.

        Yields:
            As `decode_streams`.
        """
        drop_drums = drop_drums or keep_drums
        is_live = options is not None and options.is_live
        streams = [
            self.encode_stream(own, is_live=is_live, drop_drums=drop_drums) for own in recordings
        ]
        yield from self.decode_streams(
            streams,
            to=to,
            seed=seed,
            options=options,
            sample_rate=sample_rate,
            mix=mix,
            keep_drums=keep_drums,
            match_level=match_level,
            transpose=transpose,
        )

    def _matched(
        self,
        blocks: Iterator[Array],
        audio: AudioStream,
        match_level: LevelMatching,
        *,
        is_live: bool,
    ) -> Iterator[Array]:
        """Bring decoded blocks to the loudness of what was encoded."""

        def report(gain_db: float) -> None:
            audio.level_gain_db = gain_db

        def counted() -> Iterator[Array]:
            for block in blocks:
                audio.on_decoded(len(block) / self.sample_rate)
                yield block

        source = audio.latents.loudness
        if source is None or match_level == "off":
            return counted()
        if is_live:
            return match_live(counted(), self.sample_rate, source, report)
        if match_level == "whole":
            return match_whole(counted(), self.sample_rate, source, report)
        seconds = min(self.window_seconds, RUNNING_SECONDS)
        return match_running(counted(), self.sample_rate, source, report, seconds=seconds)

    def _finished(
        self,
        blocks: Iterator[Array],
        audio: AudioStream,
        mix: float,
        *,
        keep_drums: bool,
        is_live: bool,
    ) -> Iterator[Array]:
        """Resample decoded blocks, lower their peaks, and give them the recording's length."""

        def report(gain_db: float) -> None:
            audio.peak_gain_db = gain_db

        n_done = 0
        resampled = resample_blocks(blocks, self.sample_rate, audio.sample_rate)
        if mix < 1 or keep_drums:
            resampled = mix_with_recording(resampled, audio, mix, keep_drums=keep_drums)
        guarded = guard_peaks(
            resampled,
            audio.sample_rate,
            report,
            seconds=LIVE_GUARD_SECONDS if is_live else GUARD_SECONDS,
        )
        for block in guarded:
            # What a block stands for was read before it was decoded, so the count of samples
            # cuts nothing before the input has ended.
            n_due = audio.n_due
            kept = block if n_due is None else block[: max(n_due - n_done, 0)]
            n_done += len(kept)
            if len(kept):
                yield kept
        # Lengths were rounded at the model's rate: less than one of its samples may lack.
        n_missing = (audio.n_due or 0) - n_done
        if n_missing > 0:
            yield silence(n_missing, audio.n_channels)

    def _joined_latents(self, stream: LatentStream) -> Array:
        channels = () if stream.n_channels == 1 else (stream.n_channels,)
        none = np.zeros((0, *channels, self.latent_dim), np.float32)
        return to_array(np.concatenate([none, *stream.blocks]))

    @torch.inference_mode()
    def encode_blocks(self, blocks: Iterable[Array], *, is_live: bool = False) -> Iterator[Array]:
        """Encode a waveform of any length as it arrives.

        The result is that of encoding the whole at once, however it is cut into blocks. The
        last frame is filled up with silence.

        Args:
            blocks: float32 [t] each, or [t, 2] of two channels, at the model's rate.
            is_live: Whether each frame is encoded as soon as can be.

        Yields:
            Latents, float32 [l, D] or [l, 2, D].
        """
        # Shorter windows than the decoder's, which would else wait for a whole one more.
        window = LIVE_FRAMES if is_live else self._window(self.window_seconds / 2)
        for latents in self.encoder.stream(self._whole_frames(blocks), window=window):
            yield latents.cpu().numpy()

    def decode_blocks(
        self,
        blocks: Iterable[Array],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
    ) -> Iterator[Array]:
        """Decode latents of any length as they arrive.

        Args:
            blocks: Latents, float [l, D] each, or [l, 2, D] of two channels.
            to: The domain.
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.

        Yields:
            Waveform, float32 [t] or [t, 2], at the model's rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels.
        """
        with closing(self.decode_all([blocks], to=to, seed=seed, options=options)) as waveforms:
            yield from next(waveforms)

    def decode_all(
        self,
        sequences: Iterable[Iterable[Array]],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        transpose: float = 0.0,
    ) -> Generator[Iterator[Array]]:
        """Decode several sequences of latents, each to the samples that it gets alone.

        Models of the WaveNet family work on several at a time, which is faster. Memory does not
        grow with the number or length of the sequences: they are read one after the other, and
        not before they are needed.

        Args:
            sequences: Blocks of latents, float [l, D] or [l, 2, D] each; may be taken on another
                thread.
            to: The domain, or several with their shares in a sum: "piano:0.7,strings:0.3".
            seed: Seed of random draws, the same for each.
            options: From `generation_options`; None for the defaults.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents.

        Yields:
            The waveform of each sequence in blocks, float32 [t] or [t, 2]; to be taken before that
            of the next, which drops what is left of it. What is raised while a sequence's blocks
            are read is raised again where its waveform is taken; the others can still be taken.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: Where a waveform is taken: its latents have another number of channels.
        """
        if transpose:
            self._transposed(torch.zeros(1, self.latent_dim), transpose)
        shares = {
            find_domain(name, self.decoders.names): share
            for name, share in parse_target(to).items()
        }
        given = self.generation_options({}) if options is None else options
        window = LIVE_FRAMES if given.is_live else self._window(self.window_seconds)
        copies = [self._copies(blocks, len(shares), transpose) for blocks in sequences]
        with ExitStack() as stack:
            made = []
            for number, name in enumerate(shares):
                waveforms = self.decoders[name].generate_all(
                    [own[number] for own in copies], window=window, seed=seed, options=given
                )
                made.append(stack.enter_context(closing(waveforms)))
            for parts in zip(*made, strict=True):
                yield _arrays(_sum(parts, tuple(shares.values())))

    def _copies(
        self, blocks: Iterable[Array], n_copies: int, transpose: float
    ) -> list[Iterator[Tensor]]:
        """Return latents as decoders take them, for several, which may be on several threads."""
        latents = self._latents(blocks)
        if transpose:
            latents = (self._transposed(own, transpose) for own in latents)
        if n_copies == 1:
            return [latents]
        lock = Lock()

        def locked(own: Iterator[Tensor]) -> Iterator[Tensor]:
            while True:
                with lock:
                    block = next(own, None)
                if block is None:
                    return
                yield block

        return [locked(own) for own in tee(latents, n_copies)]

    def _transposed(self, latents: Tensor, semitones: float) -> Tensor:
        move = self.family_description.transpose
        if move is None:
            raise UsageError(f"{self.config.model.family} models cannot transpose")
        return move(latents, self.config.model, semitones)

    def _window(self, seconds: float) -> int:
        """Return how many latent frames to work on at a time."""
        return max(1, round(seconds * self.latent_rate))

    def _whole_frames(self, blocks: Iterable[Array]) -> Iterator[Tensor]:
        """Pass samples on, float32 [t] or [t, 2], and fill up the last latent frame."""
        n_samples = 0
        channels: tuple[int, ...] = ()
        for block in blocks:
            n_samples += len(block)
            channels = block.shape[1:]
            yield self._to_device(block.astype(np.float32, copy=False))
        if n_missing := -n_samples % self.hop_length:
            yield torch.zeros(n_missing, *channels, device=self.device)

    def _latents(self, blocks: Iterable[Array]) -> Iterator[Tensor]:
        for block in blocks:
            if block.ndim not in (2, 3) or block.shape[-1] != self.latent_dim:
                shape = block.shape if block.ndim < 3 else to_array(block).shape
                raise LatentsError(
                    f"latents of shape {shape}, model {self.id} expects "
                    f"(frames, {self.latent_dim}); were they made by another model?"
                )
            if block.ndim == 3 and not self.family_description.is_stereo:
                raise LatentsError(
                    f"latents of {block.shape[1]} channels, and {self.config.model.family} models "
                    "are mono; encode with --mono, or take one channel"
                )
            yield self._to_device(block.astype(np.float32, copy=False))

    def _to_device(self, values: Array) -> Tensor:
        # A copy: torch warns about sharing an array that is read-only, as mapped ones are.
        return torch.tensor(np.ascontiguousarray(values), device=self.device)


def _sum(parts: Sequence[Iterator[Tensor]], shares: Sequence[float]) -> Iterator[Tensor]:
    """Add waveforms of one length up, each times its share; one alone passes unchanged."""
    if len(parts) == 1 and shares[0] == 1:
        yield from parts[0]
        return
    rests: list[Tensor | None] = [None] * len(parts)
    while True:
        for number, part in enumerate(parts):
            if rests[number] is None:
                rests[number] = next(part, None)
        blocks = [rest for rest in rests if rest is not None]
        if len(blocks) < len(parts):
            return
        length = min(len(block) for block in blocks)
        yield torch.stack(
            [share * block[:length] for share, block in zip(shares, blocks, strict=True)]
        ).sum(0)
        rests = [block[length:] if len(block) > length else None for block in blocks]


@torch.inference_mode()
def _arrays(blocks: Iterator[Tensor]) -> Iterator[Array]:
    for block in blocks:
        yield block.cpu().numpy()


def _stream_of(latents: Array) -> LatentStream:
    """Return checked latents, float32 [L, D] or [2, L, D], as a stream."""
    n_channels = 1 if latents.ndim == 2 else len(latents)
    return LatentStream(iter([to_frames(latents)]), n_channels=n_channels)


def _joined_waveform(streams: Generator[AudioStream]) -> Array:
    """Return the waveform of the only stream; the next is not asked for, which would end it."""
    with closing(streams):
        return _joined(next(streams))


def _joined_waveforms(streams: Generator[AudioStream]) -> list[Array]:
    return [_joined(audio) for audio in streams]


def _joined(audio: AudioStream) -> Array:
    """Return a whole waveform, float32 [T] or [2, T]."""
    waveform = np.concatenate([silence(0, audio.n_channels), *audio.blocks])
    return np.ascontiguousarray(waveform.T)


def as_waveform(waveform: ArrayLike, sample_rate: int) -> ArrayRecording:
    """Check a waveform in memory, mono or stereo, and return it as float32.

    Args:
        waveform: As for `Translator.encode`.
        sample_rate: Hz.

    Raises:
        AudioError: As for `Translator.encode`.
    """
    samples = as_array(waveform, "waveform", error=AudioError)
    if samples.ndim != 1 and (samples.ndim != 2 or len(samples) != 2):
        is_turned = samples.ndim == 2 and samples.shape[1] == 2
        raise AudioError(
            f"waveform of shape {samples.shape}: expected (samples,) of mono or (2, samples) of "
            f"stereo{'; transpose it, as in waveform.T' if is_turned else ''}"
        )
    samples = samples.T
    _check_sample_rate(sample_rate)
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4):
        full_scale = -float(np.iinfo(samples.dtype).min)
        return ArrayRecording((samples / full_scale).astype(np.float32), int(sample_rate))
    if samples.dtype.kind != "f" or samples.dtype.itemsize not in (2, 4, 8):
        raise AudioError(
            f"waveform of dtype {samples.dtype}: expected floats in -1..1, int16 or int32"
        )
    peak = float(np.abs(samples).max(initial=0.0))
    if not math.isfinite(peak):
        raise AudioError("waveform has NaN or infinite samples")
    if peak > LARGEST_SAMPLE:
        raise AudioError(
            f"waveform with a peak of {peak:g}: expected floats in -1..1; divide by the full scale"
        )
    return ArrayRecording(samples.astype(np.float32), int(sample_rate))


def _check_sample_rate(sample_rate: int) -> None:
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer):
        raise AudioError(f"sample_rate {shortened(sample_rate)}: expected an int, in Hz")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"sample_rate {sample_rate}: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
        )
