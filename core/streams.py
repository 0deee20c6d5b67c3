"""Latents and audio in the making, as they pass from the encoder to the decoder and to a file.

In: blocks that come one after the other. Out: the same, with what is known of the recording they
stand for: its rate and length, and by how much its level was changed. And what decoded blocks go
through until they are a result. `core.streaming` makes them, the command line writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.audio.levels import GUARD_SECONDS, LIVE_GUARD_SECONDS, RecordingView, guard_peaks
from core.audio.live_level import LiveLevel
from core.audio.loudness import LevelMatching, LoudnessMeter, match_running, match_whole
from core.audio.percussion import split_percussion
from core.audio.resampling import resample_blocks, resampled_length
from core.blocks import add_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from core.audio.levels import Recording

    Array = NDArray[np.float32]


@dataclass
class LatentStream:
    """Latents in the making. What is not known in advance is set before the first block comes.

    Attributes:
        blocks: float32 [l, D] each, or [l, 2, D] of two channels; can be taken once.
        sample_rate: Of the recording that they stand for, Hz; None for latents that stand for
            whole frames.
        n_samples: Samples of the recording; None when not known before it ends.
        n_read: Samples of the recording that were read so far.
        gain_db: By how much the audio was raised before it was encoded; None when the gain follows
            the input.
        recording: What they stand for, where it can be read again.
        n_channels: 1 or 2.
        loudness: Of what was encoded so far; None for latents that come without their recording.
        transpose: Semitones that its notes are moved by; known with the first decoded block.
    """

    blocks: Iterator[Array]
    sample_rate: int | None = None
    n_samples: int | None = None
    n_read: int = 0
    gain_db: float | None = 0.0
    recording: Recording | None = None
    n_channels: int = 1
    loudness: LoudnessMeter | LiveLevel | None = None
    transpose: float = 0.0


@dataclass
class AudioStream:
    """A decoded waveform in the making.

    Attributes:
        blocks: float32 [t] or [t, 2] each, within [-1, 1]; can be taken once.
        latents: What it is made of.
        sample_rate: Hz.
        is_matched: Whether it is brought to the loudness of its recording.
        peak_gain_db: By how much peaks above full scale were lowered; known with the last block.
        level_gain_db: By how much it was brought to the recording's loudness, at the end; None
            where it was not.
        on_decoded: Called with the seconds of each block that was decoded.
    """

    blocks: Iterator[Array]
    latents: LatentStream
    sample_rate: int
    is_matched: bool = False
    peak_gain_db: float = 0.0
    level_gain_db: float | None = None
    on_decoded: Callable[[float], None] = field(default=lambda _: None)

    @property
    def n_samples(self) -> int | None:
        """Samples in all; None when not known in advance."""
        return self._at_own_rate(self.latents.n_samples)

    @property
    def n_channels(self) -> int:
        """Channels: 1 or 2."""
        return self.latents.n_channels

    @property
    def n_due(self) -> int | None:
        """Samples that stand for what was read so far; None where all of the latents do."""
        return None if self.latents.sample_rate is None else self._at_own_rate(self.latents.n_read)

    def _at_own_rate(self, n_samples: int | None) -> int | None:
        if n_samples is None or self.latents.sample_rate is None:
            return None
        return resampled_length(n_samples, self.latents.sample_rate, self.sample_rate)


@dataclass(frozen=True)
class CountedRecording(RecordingView):
    """A recording that counts for a stream of latents what was read of it.

    Attributes:
        stream: Gets the number of samples.
        loudness: Gets the samples; None if something else is measured.
    """

    stream: LatentStream
    loudness: LoudnessMeter | None

    def blocks(self) -> Iterator[Array]:
        """Yield float32 [t] or [t, 2], and count them."""
        self.stream.n_read = 0
        if self.loudness is not None:
            self.loudness.reset()
        for block in self.recording.blocks():
            self.stream.n_read += len(block)
            if self.loudness is not None:
                self.loudness.push(block, self.sample_rate)
            yield block


def match_to_recording(
    parts: Sequence[Iterator[Array]],
    shares: Sequence[float],
    sample_rate: int,
    audio: AudioStream,
    match_level: LevelMatching,
    *,
    seconds: float,
) -> Iterator[Array]:
    """Add decoded blocks up, and bring them to the loudness of what was encoded.

    Several parts are brought to that loudness each before they are added up, so that their shares
    tell how loud they are in the sum, whatever the decoders make of the music by themselves.

    Args:
        parts: Decoded by one decoder each, float32 [t] or [t, 2] each.
        shares: Of each in the sum.
        sample_rate: Theirs, Hz.
        audio: What they belong to; gets the gain.
        match_level: "whole", "running" or "off"; see `core.audio.loudness`. What is live is
            matched at once.
        seconds: After how much a gain that runs is moved.

    Yields:
        The same number of samples.
    """

    def report(gain_db: float) -> None:
        audio.level_gain_db = gain_db

    def counted(blocks: Iterator[Array]) -> Iterator[Array]:
        for block in blocks:
            audio.on_decoded(len(block) / sample_rate)
            yield block

    parts = [counted(parts[0]), *parts[1:]]
    source = audio.latents.loudness
    if source is None or match_level == "off":
        return add_up(parts, shares)
    # As loud as one part: what two decoders make of the same latents has a correlation below 0.15.
    shares = [share / math.hypot(*shares) for share in shares]
    if isinstance(source, LoudnessMeter) and match_level == "whole":
        return match_whole(parts, shares, sample_rate, source, report)

    def matched(blocks: Iterator[Array]) -> Iterator[Array]:
        if isinstance(source, LiveLevel):
            return source.match_output(blocks, report)
        return match_running(blocks, sample_rate, source, report, seconds=seconds)

    return add_up([matched(blocks) for blocks in parts], shares)


def finish(
    blocks: Iterator[Array],
    sample_rate: int,
    audio: AudioStream,
    mix: float,
    *,
    keep_drums: bool,
    is_live: bool,
) -> Iterator[Array]:
    """Resample decoded blocks, mix them, lower their peaks, and give them the recording's length.

    Args:
        blocks: Decoded, float32 [t] or [t, 2] each.
        sample_rate: Theirs, Hz.
        audio: What they become; gets the gain of the peaks.
        mix: As for `mix_with_recording`.
        keep_drums: As for `mix_with_recording`.
        is_live: Whether nothing may wait.

    Yields:
        float32 [t] or [t, 2] each at the rate of `audio`, within [-1, 1], none empty.
    """

    def report(gain_db: float) -> None:
        audio.peak_gain_db = gain_db

    n_done = 0
    resampled = resample_blocks(blocks, sample_rate, audio.sample_rate)
    if mix < 1 or keep_drums:
        resampled = mix_with_recording(resampled, audio, mix, keep_drums=keep_drums)
    guard_seconds = LIVE_GUARD_SECONDS if is_live else GUARD_SECONDS
    for block in guard_peaks(resampled, audio.sample_rate, report, seconds=guard_seconds):
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


def mix_with_recording(
    blocks: Iterator[Array], audio: AudioStream, mix: float, *, keep_drums: bool = False
) -> Iterator[Array]:
    """Mix decoded blocks with the recording, which is read again; both end together.

    Args:
        blocks: Decoded, float32 [t] or [t, 2] each, at the rate of `audio`.
        audio: What is mixed; its latents have a recording.
        mix: Share of the decoded blocks, 0 to 1.
        keep_drums: Whether the recording's percussive part is added whole, whatever `mix` is.

    Yields:
        The same.
    """
    dry = _dry_blocks(audio, np.float32(1 - mix), keep_drums=keep_drums)
    rest = silence(0, audio.n_channels)
    for block in blocks:
        while len(rest) < len(block) and (more := next(dry, None)) is not None:
            rest = np.concatenate([rest, more])
        # Known by now. Quiet recordings were raised for the encoder, and are not raised here.
        raised_db = 0.0 if audio.is_matched else audio.latents.gain_db or 0.0
        wet = np.float32(mix * 10 ** (-raised_db / 20))
        own, rest = rest[: len(block)], rest[len(block) :]
        own = np.concatenate([own, silence(len(block) - len(own), audio.n_channels)])
        yield wet * block + own
    yield rest
    yield from dry


def _dry_blocks(audio: AudioStream, share: np.float32, *, keep_drums: bool) -> Iterator[Array]:
    """Yield what of the recording is in a mix, at its rate."""
    recording = audio.latents.recording
    assert recording is not None
    blocks = resample_blocks(recording.blocks(), recording.sample_rate, audio.sample_rate)
    if not keep_drums:
        yield from (share * block for block in blocks)
        return
    for harmonic, percussive in split_percussion(blocks, audio.sample_rate):
        yield share * harmonic + percussive


def silence(n_samples: int, n_channels: int) -> Array:
    """Return zeros, float32 [t], or [t, C] of several channels."""
    return np.zeros(n_samples if n_channels == 1 else (n_samples, n_channels), np.float32)
