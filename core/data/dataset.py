"""Training batches from prepared domains, memory-mapped.

Every item is a function of (seed, item number) and of nothing else: its track, its place,
its tuning and its distortion. So a run that continues at any step, in any number of processes and
workers, trains on the items that an uninterrupted one would have trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.utils.data import Dataset

from core.audio.levels import matching_gain_db
from core.data.augment import distort
from core.data.midi import END, KEY, START
from core.data.samples import FULL_SCALE, open_samples
from core.data.score import read_notes, score_roll
from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.config import Config, DistortionConfig
    from core.data.domain import Domain

SILENCE_DB = -60.0  # quieter draws are drawn again,
REDRAWS = 8  # but only so often: a domain may be mostly silence
RESAMPLING_MARGIN_SECONDS = 0.02


@dataclass(frozen=True)
class Batch:
    """Items of one update, grouped by domain.

    Attributes:
        domains: One name a group.
        items: Numbers of the items of a run, unique to each, int64 [groups, items].
        source: Inputs of the encoder, float32 [groups, items, T], in [-1, 1].
        target: What the decoders have to produce, float32 [groups, items, T].
        score: Which keys sound and begin in both, NaN where that is not known, float32
            [groups, items, L, 2, 88]; see `core.data.score.score_roll`.
    """

    domains: tuple[str, ...]
    items: Tensor
    source: Tensor
    target: Tensor
    score: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with its audio and scores on a device."""
        moved = (x.to(device, non_blocking=True) for x in (self.source, self.target, self.score))
        source, target, score = moved
        return replace(self, source=source, target=target, score=score)

    def share_memory(self) -> Batch:
        """Move the batch to memory that other processes can read; for a `DataLoader`'s worker.

        Left to the worker's queue, a failure would end a thread of it without a message, and the
        main process would wait for the batch for ever.
        """
        for tensor in (self.items, self.source, self.target, self.score):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        return self

    def pin_memory(self) -> Batch:
        """Return the same batch with its audio in page-locked memory; for a `DataLoader`."""
        source, target, score = (x.pin_memory() for x in (self.source, self.target, self.score))
        return replace(self, source=source, target=target, score=score)

    def split(self, n_parts: int) -> list[Batch]:
        """Cut every group of items into as many equal parts."""
        whole = (self.items, self.source, self.target, self.score)
        tensors = (x.chunk(n_parts, dim=1) for x in whole)
        return [Batch(self.domains, *part) for part in zip(*tensors, strict=True)]


@dataclass(frozen=True)
class Item:
    """A segment of music for training.

    Attributes:
        source: The encoder's input, float32 [T]; the target itself where nothing differs.
        target: What the decoder has to produce, float32 [T].
        notes: What is played in both, as from `core.data.score.read_notes`, in seconds from the
            segment's first sample; None where there is no score.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    notes: NDArray[np.float32] | None


class Segments:
    """Random segments of one split of one domain.

    Args:
        domain: The prepared domain.
        split: "train", "validation" or "test".
        sample_rate: Rate of the segments, Hz; at most the prepared rate.
        length: Samples of a segment, at that rate.
        level_db: Level in dBFS that quiet tracks are raised to, as a model's input is in
            translation; None leaves all tracks as they were recorded.

    Raises:
        DataError: The split is empty, or was prepared at a lower rate.
    """

    def __init__(
        self,
        domain: Domain,
        split: str,
        *,
        sample_rate: int,
        length: int,
        level_db: float | None = None,
    ) -> None:
        if domain.sample_rate < sample_rate:
            raise DataError(
                f"{domain.name} was prepared at {domain.sample_rate} Hz and this preset needs "
                f"{sample_rate}; prepare it again with --rate {sample_rate} or more"
            )
        self.domain, self.sample_rate, self.length = domain, sample_rate, length
        renditions = domain.renditions_of_tracks() if split == "train" else {}
        self.parts: list[_Part] = []
        for track in domain.tracks:
            gain_db = 0.0 if level_db is None else matching_gain_db(track.level_db, level_db)
            own = _Samples(domain.directory / track.file, gain_db)
            notes = domain.directory / track.notes if track.notes else None
            others = tuple(
                # As loud as the track: a decoder keeps its input's level.
                _Samples(
                    domain.renditions.directory / rendition.file,
                    track.level_db + gain_db - rendition.level_db,
                )
                for rendition in renditions.get(track.source, ())
                if domain.renditions is not None
            )
            self.parts += [
                _Part(own, others, part.start, part.stop, notes)
                for part in track.parts
                if part.split == split
            ]
        if not self.parts:
            raise DataError(
                f"{domain.name} has no {split} audio; add recordings and run `umt prep` again"
            )
        # Of the prepared rate; a part shorter than a segment has one place, and is padded.
        self.span = int(np.ceil(length * domain.sample_rate / sample_rate))
        places = [max(1, part.stop - part.start - self.span + 1) for part in self.parts]
        self.last_places = np.cumsum(places)

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a segment at a random place, float32 [length]; avoids silence if it can."""
        return self.draw_item(rng, rendition_share=0.0).target

    def draw_item(
        self, rng: np.random.Generator, *, rendition_share: float, speed: float = 1.0
    ) -> Item:
        """Return an input and a target at a random place: the same place of the same music.

        Args:
            rng: Source of all random choices.
            rendition_share: How often the input is another instrument's rendition, where the
                track has one; else it is the target itself.
            speed: How much faster than recorded both are played, which raises their pitch as much.

        Returns:
            An item of `length` samples; source and target are one and the same array where no
            rendition was drawn.
        """
        part, first = self._place(rng)
        own = self._read(part.own, part, first, speed)
        for _ in range(REDRAWS):
            if not _is_silent(own):
                break
            part, first = self._place(rng)
            own = self._read(part.own, part, first, speed)
        source = own
        if part.renditions and rng.random() < rendition_share:
            samples = part.renditions[int(rng.integers(len(part.renditions)))]
            rendition = self._read(samples, part, first, speed)
            if not _is_silent(rendition):
                source = rendition
        return Item(source, own, self._notes(part, first, speed))

    def _place(self, rng: np.random.Generator) -> tuple[_Part, int]:
        """Draw a part, and the first sample of a segment in it."""
        number = int(rng.integers(self.last_places[-1]))
        index = int(np.searchsorted(self.last_places, number, side="right"))
        part = self.parts[index]
        return part, part.start + number - (int(self.last_places[index - 1]) if index else 0)

    def _first(self, part: _Part, place: int, speed: float) -> tuple[int, int]:
        """Return the first sample to read and how many: faster music takes more of it."""
        span = math.ceil(self.length * self.domain.sample_rate * speed / self.sample_rate)
        return max(part.start, min(place, part.stop - span)) if span > self.span else place, span

    def _notes(self, part: _Part, place: int, speed: float) -> NDArray[np.float32] | None:
        """Return the notes of a track's score as they are played from a place on."""
        if part.notes is None:
            return None
        first, _ = self._first(part, place, speed)
        notes = read_notes(part.notes)
        notes[:, [START, END]] -= first / self.domain.sample_rate
        notes[:, [START, END]] /= speed
        notes[:, KEY] += 12 * math.log2(speed)
        return notes

    def _read(
        self, samples: _Samples, part: _Part, place: int, speed: float
    ) -> NDArray[np.float32]:
        first, span = self._first(part, place, speed)
        rate = self.domain.sample_rate * speed
        ratio = rate / self.sample_rate
        # A resampling filter rings at the ends of what it is given; those are cut off.
        margin = round(RESAMPLING_MARGIN_SECONDS * self.domain.sample_rate) if ratio != 1 else 0
        before = min(margin, first - part.start)
        # Mapped anew each time: thousands of tracks kept open would be too many.
        stored = open_samples(samples.path)
        stretch = stored[first - before : min(first + span + margin, part.stop)]
        factor = np.float32(10 ** (samples.gain_db / 20) / FULL_SCALE)
        segment = stretch.astype(np.float32) * factor
        if ratio != 1:
            segment = soxr.resample(segment, rate, self.sample_rate)
            before = round(before / ratio)
        segment = segment[before : before + self.length]
        if samples.gain_db > 0:
            segment = segment / max(1.0, float(np.abs(segment).max(initial=0.0)))
        return np.pad(segment, (0, self.length - len(segment)))


@dataclass(frozen=True)
class _Samples:
    """A file of samples, and the gain in dB that they are read with."""

    path: Path
    gain_db: float


@dataclass(frozen=True)
class _Part:
    """A stretch of a track of the split, the same of its renditions, and its whole score."""

    own: _Samples
    renditions: tuple[_Samples, ...]
    start: int
    stop: int
    notes: Path | None


def _is_silent(segment: NDArray[np.float32]) -> bool:
    return bool(np.mean(np.square(segment), dtype=np.float64) <= 10 ** (SILENCE_DB / 10))


class Batches(Dataset[Batch]):
    """The batches of a run, numbered by step; a map-style dataset for a `DataLoader`.

    Args:
        segments: One source of segments a domain; they take turns in this order.
        config: The run's configuration.
        rank: Which process this is.
        n_processes: How many share each batch.

    Raises:
        DataError: The batch cannot be shared evenly.
    """

    def __init__(
        self, segments: Sequence[Segments], config: Config, *, rank: int, n_processes: int
    ) -> None:
        training = config.training
        self.segments, self.config = segments, config
        self.groups = min(training.domains_per_step, len(segments))
        shares = self.groups * n_processes
        if training.batch_size % shares:
            multiple = shares * training.accumulate
            fitting = math.ceil(training.batch_size / multiple) * multiple
            raise DataError(
                f"batch_size={training.batch_size} cannot be shared: {self.groups} domains a step "
                f"on {n_processes} processes need a multiple of {shares}; "
                f"add --batch-size {fitting}"
            )
        items = training.batch_size // self.groups
        self.items = items
        share = items // n_processes
        if share % training.accumulate:
            raise DataError(
                f"accumulate={training.accumulate} does not divide the {share} items of a domain "
                "that a process has in a step"
            )
        self.own = range(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.config.training.steps

    def n_updates(self, n_steps: int) -> dict[str, int]:
        """Return in how many of the first batches each domain has items."""
        turns, rest = divmod(n_steps * self.groups, len(self.segments))
        return {
            segments.domain.name: turns + (index < rest)
            for index, segments in enumerate(self.segments)
        }

    def __getitem__(self, step: int) -> Batch:
        """Return this process's share of the batch of a step (counted from 0)."""
        first = step * self.groups
        sources = [
            self.segments[(first + group) % len(self.segments)] for group in range(self.groups)
        ]
        items = [
            [(first + group) * self.items + item for item in self.own]
            for group in range(self.groups)
        ]
        seed = self.config.training.seed
        made = [
            make_item(segments, self.config.distortion, (seed, item))
            for segments, own in zip(sources, items, strict=True)
            for item in own
        ]
        hop_length, rate = self.config.model.hop_length, self.config.model.sample_rate
        n_frames = self.segments[0].length // hop_length
        rolls = [score_roll(item.notes, n_frames, hop_length / rate) for item in made]
        return Batch(
            tuple(segments.domain.name for segments in sources),
            torch.tensor(items),
            self._grouped([item.source for item in made]),
            self._grouped([item.target for item in made]),
            self._grouped(rolls),
        )

    def _grouped(self, arrays: Sequence[NDArray[np.float32]]) -> Tensor:
        """Return the items' arrays as one tensor, [groups, items, ...]."""
        stacked = np.stack(arrays)
        return torch.from_numpy(stacked.reshape(self.groups, len(self.own), *stacked.shape[1:]))


def make_item(segments: Segments, distortion: DistortionConfig, key: tuple[int, int]) -> Item:
    """Make one training item.

    Args:
        segments: Where it comes from.
        distortion: How the encoder's input differs from the target.
        key: (seed, item number), which determines everything.
    """
    rng = np.random.default_rng(key)
    cents = distortion.detune_cents
    speed = 2 ** (rng.uniform(-cents, cents) / 1200) if cents else 1.0
    item = segments.draw_item(rng, rendition_share=distortion.take_share, speed=speed)
    source, target = item.source, item.target
    is_rendition = source is not target
    if distortion.gain_db:
        gain = 10 ** (rng.uniform(-distortion.gain_db, distortion.gain_db) / 20)
        # Never above full scale, where the target would be distorted too.
        gain = min(gain, 1 / max(float(np.abs(target).max()), 1e-6))
        factor = np.float32(max(gain, 1e-3))
        source, target = factor * source, factor * target
    source = distort(source, segments.sample_rate, distortion, rng, is_rendition=is_rendition)
    return Item(source, target, item.notes)


def fixed_batch(segments: Segments, n_items: int, seed: int) -> Tensor:
    """Return undistorted segments for validation, the same at every call.

    Returns:
        float32 [n_items, T].
    """
    items = [segments.draw(np.random.default_rng((seed, 1 << 40, n))) for n in range(n_items)]
    return torch.from_numpy(np.stack(items))
