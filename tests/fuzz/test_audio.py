"""Bytes that anybody may have written: only errors of the project's own, and no hang."""

from __future__ import annotations

import io
import json
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audio import mpeg
from core.audio.formats import find_audio
from core.audio.joined import find_parts, mp4_parts
from core.audio.provenance import Provenance
from core.audio.reader import open_audio
from core.audio.wav import OtherEncodingError, WavReader
from core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
EXTENSIONS = ("wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64", "voc")
STARTS = (b"", b"ID3\4\0\0", b"\xff\xfb\x90\0", b"OggS\0\2", b"fLaC", b"FORM", b"RIFF")
MAX_SECONDS = 3_600  # of sound in a few kilobytes, before it counts as without bound


class Pipe(io.RawIOBase):
    """Bytes that arrive a few at a time and cannot be sought."""

    def __init__(self, content: bytes, longest: int) -> None:
        self._bytes, self._longest = io.BytesIO(content), longest

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer) -> int:
        piece = self._bytes.read(min(len(buffer), self._longest))
        buffer[: len(piece)] = piece
        return len(piece)


def samples_of(source) -> int | None:
    """Read a source whole; None if it is refused. Anything but a refusal or sound is raised."""
    try:
        with open_audio(source) as audio:
            n_samples = 0
            for block in audio.blocks():
                assert block.dtype == np.float32
                assert np.isfinite(block).all()
                n_samples += len(block)
                assert n_samples < MAX_SECONDS * audio.sample_rate
            return n_samples
    except AudioError as error:
        assert "\n" not in str(error)  # noqa: PT017 - of each example
        return None


ODD_SIZES = (0, 1, 2, 4_097, 0x7FFF0000, 0x7FFFF000, 0x80000000, 3_000_000_000, 0xFFFFFFFF)
GOOD_FORMATS = ((1, 1, 2, 16), (1, 2, 4, 16), (1, 1, 1, 8), (1, 2, 6, 24), (3, 1, 4, 32))
ODD_NUMBERS = (0, 1, 2, 3, 4, 6, 8, 12, 20, 32, 64, 0xFFFE, 0xFFFF)
NAMES = (b"LIST", b"ds64", b"junk", b"RIFF", b"\0\0\0\0", b"id3 ", b"fact", b"fmt ", b"data")
odd = st.integers(0, 9).map(lambda number: number == 0)  # one of ten parts is not as it should be


@st.composite
def chunks(draw, names, bodies) -> bytes:
    name, body = draw(names), draw(bodies)
    size = draw(st.sampled_from(ODD_SIZES)) if draw(odd) else len(body)
    return name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)


@st.composite
def formats(draw) -> bytes:
    tag, n_channels, block, bits = draw(st.sampled_from(GOOD_FORMATS))
    fields = [tag, n_channels, RATE, RATE * block, block, bits]
    for place in range(len(fields)):
        if draw(odd):
            fields[place] = draw(st.sampled_from(ODD_NUMBERS))
    return struct.pack("<HHIIHH", *fields) + draw(st.sampled_from([b"", b"", b"\0\0", bytes(24)]))


others = st.lists(
    chunks(st.sampled_from(NAMES), st.one_of(st.binary(max_size=40), formats())), max_size=2
).map(b"".join)


@st.composite
def wavs(draw) -> bytes:
    """A WAV whose parts are mostly as they should be, now and then two of them joined."""
    body = b"WAVE" + draw(others) + draw(chunks(st.just(b"fmt "), formats())) + draw(others)
    body += draw(chunks(st.just(b"data"), st.binary(max_size=200))) + draw(others)
    size = draw(st.sampled_from(ODD_SIZES)) if draw(odd) else len(body)
    content: bytes = draw(st.sampled_from([b"RIFF", b"RIFF", b"RF64"]))
    content += struct.pack("<I", size) + body
    if draw(odd):
        content += draw(wavs())
    return content[: draw(st.integers(0, len(content)))] if draw(odd) else content


@given(wavs(), st.integers(1, 4_096))
def test_any_row_of_wav_chunks_is_sound_or_refused_alike_from_file_and_pipe(content, longest):
    """From a pipe the length may be known later, or that the sound is missing."""
    try:
        from_file: np.ndarray | None = _parsed(io.BytesIO(content), len(content))
    except (AudioError, OtherEncodingError):
        from_file = None
    try:
        from_pipe: np.ndarray | None = _parsed(Pipe(content, longest), None)
    except (AudioError, OtherEncodingError):
        from_pipe = None
    if from_file is not None and from_pipe is not None:
        shared = min(len(from_file), len(from_pipe))
        np.testing.assert_array_equal(from_file[:shared], from_pipe[:shared])


def _parsed(stream, file_bytes: int | None) -> np.ndarray:
    reader = WavReader(stream, label="x", file_bytes=file_bytes)
    blocks = []
    while len(block := reader.read(1_000)):
        blocks.append(block)
    return np.concatenate([np.zeros((0, reader.format.n_channels), np.float32), *blocks])


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    """Half a second in each format."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, RATE // 2)
    directory = tmp_path_factory.mktemp("originals")
    for extension in EXTENSIONS:
        soundfile.write(directory / f"x.{extension}", noise, RATE)
    return {path.suffix[1:]: path.read_bytes() for path in directory.iterdir()}


damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=6
)


@pytest.mark.parametrize(
    "extension", ["wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64", "voc"]
)
@settings(max_examples=max(settings.get_profile("fuzz").max_examples // 4, 1))
@given(changes=damage, kept=st.floats(0, 1), is_headed=st.booleans())
def test_a_damaged_file_is_sound_or_refused(
    originals, extension, tmp_path, monkeypatch, *, changes, kept, is_headed
):
    monkeypatch.setenv("PATH", "")  # what ffmpeg makes of it is ffmpeg's
    content = bytearray(originals[extension])
    for place, new in changes:
        start = int(place * (min(len(content), 100) if is_headed else len(content)))
        content[start : start + len(new)] = new
    path = tmp_path / "x"
    path.write_bytes(content[: round((0.2 + 0.8 * kept) * len(content))])
    samples_of(path)


@given(st.binary(max_size=2_000), st.sampled_from(STARTS))
def test_any_bytes_are_parsed_or_passed_over(content, start):
    stream = io.BytesIO(start + content)
    for part in mpeg.scan(stream):
        assert 0 < part.n_frames <= len(content)
        assert mpeg.parse_frame_header(mpeg.true_header(part)[:4])
    assert max(map(len, vars(mpeg.read_id3(stream)).values())) <= len(content)
    for find in (find_parts, mp4_parts):
        spans = find(stream)
        assert spans[-1][1] == len(start + content)
        assert all(begin <= end for begin, end in spans)


@given(st.binary(min_size=4, max_size=4))
def test_a_frame_is_never_shorter_than_its_header(head):
    header = mpeg.parse_frame_header(head)
    assert header is None or header.n_bytes > 4


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = (
    *("tool", "model_id", "model", "domain", "seed", "options"),
    *("start_seconds", "seconds", "source", "source_sha256"),
)
GOOD = Provenance("umt", "1", "m", "piano", 0, {"a": 1.0}, 0.0, 1.0, "x.wav", "0" * 64)


@given(st.dictionaries(st.sampled_from(FIELDS), plain, max_size=4))
def test_provenance_is_what_umt_writes_or_an_error(changes):
    text = json.dumps(json.loads(GOOD.to_json()) | changes)
    try:
        found = Provenance.from_json(text)
    except AudioError:
        return
    assert found is not None
    assert 0 <= found.start_seconds < 1e8
    assert found.seconds is None or 0 < found.seconds < 1e8
    assert Provenance.from_json(found.to_json()) == found
    found.find_source()


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_any_comment_is_no_reason_to_fail(text):
    for comment in (text, '{"umt_provenance":1' + text, '{"umt_provenance":' * 500 + text):
        try:
            Provenance.from_json(comment)
        except AudioError:
            continue


file_names = st.text(
    st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20
)


@given(st.lists(file_names, max_size=4))
def test_any_file_name_is_found_or_not(tmp_path_factory, names):
    directory = tmp_path_factory.mktemp("names")
    made: set[Path] = set()
    for name in names:
        path = directory / f"{name}.wav"
        path.touch()
        made.add(path)
    assert set(find_audio([directory])) == {path for path in made if not path.name.startswith(".")}
