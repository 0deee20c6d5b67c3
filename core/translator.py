"""The translator: a model in use, on arrays, on batches of them, and on files.

In: waveforms. Out: latents, and waveforms of another domain. It holds no losses and no optimizers.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import core
from core.arrays import as_latents, as_waveform, to_array, to_frames
from core.audio.provenance import Provenance, changed_settings, file_sha256
from core.audio.reader import open_audio
from core.audio.writer import open_writer, output_format
from core.errors import AudioError
from core.files import atomic_write
from core.model_file import target_name
from core.streaming import StreamTranslator, Transposition
from core.streams import AudioStream, LatentStream, silence

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import ArrayLike, NDArray

    from core.audio.wav import Bits
    from core.families.base import GenerationOptions

    Array = NDArray[np.float32]


class Translator(StreamTranslator):
    """A model of K domains: what `import core` offers.

    `core.networks` loads and saves it, `core.streaming` has its part that works on music as it
    arrives; here that is applied to what is there as a whole.

    Example:
        >>> model = Translator.load("starter", domains=["piano"])
        >>> latents = model.encode(np.zeros(44_100), 44_100)
        >>> latents.shape == (44, model.latent_dim)
        True
        >>> model.decode(latents, to="piano").shape == (44 * model.hop_length,)
        True
        >>> mono, stereo = np.zeros(2000), np.zeros((2, 3000))
        >>> [own.shape for own in model.translate_batch([mono, stereo], 44_100, to="piano")]
        [(2000,), (2, 3000)]
    """

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
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
    ) -> Array:
        """Decode latents into a domain; peaks above full scale are lowered.

        Args:
            latents: Finite floats [L, D], or [2, L, D] of two channels; an array, a list or a
                tensor.
            to: The domain, or several with their shares in a sum: "piano:0.7,strings:0.3".
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents. "fit" is
                the number of octaves that puts the piece best into the target's range.
            keep_octaves: Whether notes stay where they are that the target's instrument does not
                have. Else they are played in the nearest octave that it has, as far as the model
                knows its range, and a warning is logged once.

        Returns:
            Waveform, float32 [L * hop_length] or [2, L * hop_length], in -1..1, at the model's
            rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels or another type.
        """
        stream = _stream_of(as_latents(latents))
        return _joined_waveform(
            self.decode_streams(
                [stream],
                to=to,
                seed=seed,
                options=options,
                transpose=transpose,
                keep_octaves=keep_octaves,
            )
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
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
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
            keep_octaves: As for `decode`.

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
                keep_octaves=keep_octaves,
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
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
    ) -> list[Array]:
        """Decode several arrays of latents of any lengths, each as `decode` does.

        Models of the WaveNet family work on several at a time, which is faster.

        Args:
            latents: Each as for `decode`.
            to: As for `decode`.
            seed: As for `decode`, the same for each.
            options: As for `decode`.
            transpose: As for `decode`.
            keep_octaves: As for `decode`.

        Returns:
            Waveforms, float32 [L * hop_length] or [2, L * hop_length] each.

        Raises:
            UsageError: As for `decode`.
            LatentsError: As for `decode`; nothing was decoded then.
        """
        streams = [_stream_of(as_latents(own)) for own in latents]
        return _joined_waveforms(
            self.decode_streams(
                streams,
                to=to,
                seed=seed,
                options=options,
                transpose=transpose,
                keep_octaves=keep_octaves,
            )
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
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
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
            keep_octaves: As for `decode`.

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
                keep_octaves=keep_octaves,
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
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
        mix: float = 1.0,
        keep_drums: bool = False,
        drop_drums: bool = False,
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
            keep_octaves: As for `decode`.
            mix: Share of the translation in the result, 0 to 1; the rest is the input.
            keep_drums: Whether the input's percussive part stays in the result, and the rest is
                translated.
            drop_drums: Whether the percussive part is left out.
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
                keep_octaves=keep_octaves,
                mix=mix,
                keep_drums=keep_drums,
                drop_drums=drop_drums,
            )
            try:
                with closing(made), atomic_write(target, overwrite=overwrite) as part:
                    audio = next(made)
                    first = list(islice(audio.blocks, 1))  # from which on all is known
                    how = changed_settings(
                        mix=mix,
                        transpose=audio.latents.transpose,
                        keep_octaves=keep_octaves,
                        keep_drums=keep_drums,
                        drop_drums=drop_drums,
                        match_level=match_level,
                    )
                    provenance = Provenance(
                        tool=f"umt {core.__version__}",
                        model_id=self.id,
                        model=self.name,
                        domain=to,
                        seed=seed,
                        options=asdict(options or self.generation_options({})) | how,
                        start_seconds=0.0,
                        seconds=None,
                        source=os.fspath(path),
                        source_sha256=file_sha256(path) if Path(path).is_file() else None,
                    )
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
                        for block in chain(first, audio.blocks):
                            writer.write(block)
            except FileExistsError as error:
                raise AudioError(f"{target} exists; pass overwrite=True to replace it") from error
            except OSError as error:
                raise AudioError(f"{target}: cannot be written ({error.strerror})") from error
        return target

    def _joined_latents(self, stream: LatentStream) -> Array:
        channels = () if stream.n_channels == 1 else (stream.n_channels,)
        none = np.zeros((0, *channels, self.latent_dim), np.float32)
        return to_array(np.concatenate([none, *stream.blocks]))


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
