"""The translator: one shared encoder, one decoder per domain, in one file.

In: waveforms. Out: latents, and waveforms of another domain. This is the object for using
a model; it holds no losses and no optimizers.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.audio.levels import Waveform, level_input
from core.config import Config
from core.confusion import DomainClassifier
from core.errors import AudioError, LatentsError, ModelError, UsageError
from core.families import FAMILY_NAMES, get_family
from core.families.windows import run_in_windows
from core.files import atomic_write
from core.model_file import ModelHeader, identify, part_of, read_header
from core.weights import checksums_of, read_weights

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from core.families.base import Decoder, Encoder, GenerationOptions

WINDOW_SECONDS = 15.0  # worked on at a time; bounds the memory of a long piece
# For sound that comes in while the result is heard. A window's context is worked on again with
# each window, so short ones cost more.
LIVE_WINDOW_SECONDS = 0.25
DEFAULT_LEVEL_DB = -20.0  # dBFS; the training level of a model that has seen no data


class Decoders(nn.Module):
    """Decoders by domain name, also by names such as `train` that `nn.ModuleDict` refuses."""

    def __init__(self, decoders: Mapping[str, Decoder[GenerationOptions]]) -> None:
        super().__init__()
        # Past `add_module`, which looks for attributes of that name; they are not in the way,
        # since decoders are never looked up as attributes.
        self._modules.update(decoders)

    def __getitem__(self, name: str) -> Decoder[GenerationOptions]:
        return cast("Decoder[GenerationOptions]", self._modules[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: str) -> bool:
        return name in self._modules


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
        level_db: Mean level of the prepared recordings, dBFS.
        training_record: Where the weights come from; plain JSON types.
        window_seconds: How much is decoded at a time. It changes memory, speed and the delay of
            a stream, and no result by more than rounding.
        id: Hash of configuration and weights, set by `save` and `load`.
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
        self.level_db = DEFAULT_LEVEL_DB
        self.training_record: dict[str, Any] = {}
        self.window_seconds = WINDOW_SECONDS
        self.id = "untrained"

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
        cls, path: str | Path, *, domains: Iterable[str] | None = None, device: str = "cpu"
    ) -> Translator:
        """Load a model file; runs no code from it.

        Args:
            path: The file.
            domains: Decoders to load; None for all, empty for the encoder alone.
            device: torch device to put the weights on.

        Raises:
            ModelError: The file is missing, damaged, or newer than this program.
            UsageError: A domain is unknown.
        """
        path = Path(path)
        header = read_header(path)
        try:
            config = Config.from_dict(header.config)
        except UsageError as error:
            raise ModelError(f"{path}: {error}; is this umt older than the model?") from error
        wanted = header.domains if domains is None else tuple(dict.fromkeys(domains))
        for name in wanted:
            check_domain(name, header.domains)
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, only to be replaced
            model = cls(config, header.domains, wanted, classified=header.classified)
        model.load_state_dict(read_weights(path, header, model.state_dict().keys()))
        model.level_db, model.training_record, model.id = (
            header.level_db,
            header.training,
            header.id,
        )
        return model.eval().requires_grad_(requires_grad=False).to(device)

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the model file, complete or not at all.

        Args:
            path: The file; its directory exists.
            dtype: How weights are stored; they are always computed with in float32.
        """
        tensors = {
            name: tensor.detach().to("cpu", self.stored_as.get(part_of(name), dtype)).contiguous()
            for name, tensor in self.state_dict().items()
        }
        checksums = checksums_of(tensors)
        config = self.config.to_dict()
        self.id = identify(config, self.domains, checksums)
        model = self.config.model
        header = ModelHeader(
            id=self.id,
            family=model.family,
            preset=self.config.preset,
            domains=self.domains,
            sample_rate=model.sample_rate,
            hop_length=model.hop_length,
            latent_dim=model.latent_dim,
            level_db=self.level_db,
            config=config,
            training=self.training_record,
            classified=self.classified,
            checksums=checksums,
            n_parameters={},
        )
        with atomic_write(Path(path)) as temporary:
            save_file(tensors, temporary, metadata=header.metadata())

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

    def encode(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Encode a waveform that fits into memory.

        Quiet audio is brought up to the training level first, as the commands do.

        Args:
            waveform: float [T], mono, -1..1.
            sample_rate: Its rate in Hz; resampled if it is not the model's.

        Returns:
            Latents, float32 [L, D].

        Raises:
            AudioError: The waveform is not mono.
        """
        if waveform.ndim != 1:
            raise AudioError(
                f"waveform of shape {waveform.shape}, (samples,) is expected: mix it down to mono, "
                "or read the file with core.audio.reader.read_audio"
            )
        levelled = level_input(Waveform(waveform, sample_rate), self.sample_rate, self.level_db)
        latents = self.encode_blocks(levelled.blocks)
        return np.concatenate([np.zeros((0, self.latent_dim), np.float32), *latents])

    def decode(
        self,
        latents: np.ndarray,
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
    ) -> np.ndarray:
        """Decode latents into a domain.

        Args:
            latents: float [L, D].
            to: The domain.
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.

        Returns:
            Waveform, float32 [L * hop_length], at the model's rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels.
        """
        blocks = self.decode_blocks([latents], to=to, seed=seed, options=options)
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def translate(
        self, waveform: np.ndarray, sample_rate: int, *, to: str, seed: int = 0
    ) -> np.ndarray:
        """Translate a waveform into a domain: `decode(encode(...))`."""
        return self.decode(self.encode(waveform, sample_rate), to=to, seed=seed)

    @torch.inference_mode()
    def encode_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Encode a waveform of any length as it arrives.

        The result is that of encoding the whole at once, however it is cut into blocks. The
        last frame is filled up with silence.

        Args:
            blocks: float32 [t] each, at the model's rate.

        Yields:
            Latents, float32 [l, D].
        """
        windows = run_in_windows(
            self._frames(blocks),
            lambda frames: self.encoder(frames.reshape(1, -1))[0],
            # Smaller ones than the decoder's, which would else wait for a whole one more.
            window=self._window(self.window_seconds / 2),
            before=self.encoder.frames_before,
            after=self.encoder.frames_after,
        )
        for latents in windows:
            yield latents.cpu().numpy()

    def decode_blocks(
        self,
        blocks: Iterable[np.ndarray],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
    ) -> Iterator[np.ndarray]:
        """Decode latents of any length as they arrive.

        Args:
            blocks: Latents, float [l, D] each.
            to: The domain.
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.

        Yields:
            Waveform, float32 [t], at the model's rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels.
        """
        with closing(self.decode_all([blocks], to=to, seed=seed, options=options)) as waveforms:
            yield from next(waveforms)

    def decode_all(
        self,
        sequences: Iterable[Iterable[np.ndarray]],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
    ) -> Generator[Iterator[np.ndarray]]:
        """Decode several sequences of latents, each to the samples that it gets alone.

        Models of the WaveNet family work on several at a time, which is faster. Memory does not
        grow with the number or length of the sequences: they are read one after the other, and
        not before they are needed.

        Args:
            sequences: Blocks of latents, float [l, D] each; may be taken on another thread.
            to: The domain.
            seed: Seed of random draws, the same for each.
            options: From `generation_options`; None for the defaults.

        Yields:
            The waveform of each sequence in blocks, float32 [t]; to be taken before that of the
            next, which drops what is left of it. What is raised while a sequence's blocks are
            read is raised again where its waveform is taken; the others can still be taken.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: Where a waveform is taken: its latents have another number of channels.
        """
        check_domain(to, self.decoders)
        made = self.decoders[to].generate_all(
            [self._latents(blocks) for blocks in sequences],
            window=self._window(self.window_seconds),
            seed=seed,
            options=self.generation_options({}) if options is None else options,
        )
        with closing(made):
            for waveform in made:
                yield _arrays(waveform)

    def _window(self, seconds: float) -> int:
        """Return how many latent frames to work on at a time."""
        return max(1, round(seconds * self.latent_rate))

    def _frames(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Cut a stream of samples into frames, float32 [l, hop_length]."""
        rest = np.zeros(0, np.float32)
        for block in blocks:
            samples = np.concatenate([rest, block.astype(np.float32, copy=False)])
            whole = len(samples) // self.hop_length * self.hop_length
            if whole:
                yield self._to_device(samples[:whole]).view(-1, self.hop_length)
            rest = samples[whole:]
        if len(rest):
            yield self._to_device(np.pad(rest, (0, self.hop_length - len(rest)))).view(1, -1)

    def _latents(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != self.latent_dim:
                raise LatentsError(
                    f"latents of shape {block.shape}, model {self.id} expects "
                    f"(frames, {self.latent_dim}); were they made by another model?"
                )
            yield self._to_device(block.astype(np.float32, copy=False))

    def _to_device(self, values: np.ndarray) -> Tensor:
        # A copy: torch warns about sharing an array that is read-only, as mapped ones are.
        return torch.tensor(np.ascontiguousarray(values), device=self.device)


@torch.inference_mode()
def _arrays(blocks: Iterator[Tensor]) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block.cpu().numpy()


def check_domain(name: str, known: Iterable[str]) -> None:
    """Raise a UsageError that lists the known domains unless `name` is one of them."""
    if name not in known:
        raise UsageError(f"unknown domain {name!r}; this model knows: {', '.join(known)}")
