"""Recordings in any format to tracks of mono int16."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from core.data import convert
from core.data.domain import load_domain
from core.data.prepare import prepare

from .conftest import RATE, REPOSITORY, SHAPES, prep, stored, write_tone, write_tones


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("name", "options"), SHAPES, ids=range(len(SHAPES)))
def test_any_recording_becomes_mono_int16_of_its_length_and_sound(real_tree, name, options):
    root, log = real_tree
    assert log.failures == []
    domain = load_domain(root / "data" / "My piano")
    samples = stored(domain, name)
    assert isinstance(samples, np.memmap)
    assert samples.dtype == np.int16
    expected = 44100 * options.get("seconds", 2.0)
    # mp3 encoders pad; everything else keeps its length to the sample.
    assert abs(samples.size - expected) <= (4000 if name.endswith("MP3") else 0)
    hz = 300 + 20 * [shape[0] for shape in SHAPES].index(name)
    spectrum = np.abs(np.fft.rfft(samples[:44100] * np.hanning(44100)))
    assert int(spectrum.argmax()) == hz
    assert np.abs(samples).max() / 32768 == pytest.approx(0.3, abs=0.02)


def test_track_facts_match_the_files(real_tree):
    root, _ = real_tree
    domain = load_domain(root / "data" / "My piano")
    assert [track.source for track in domain.tracks] == sorted(name for name, _ in SHAPES)
    for track in domain.tracks:
        source = root / "My piano" / track.source
        assert track.n_samples == stored(domain, track.source).size
        assert track.source_size == source.stat().st_size
        assert track.source_mtime_ns == source.stat().st_mtime_ns
        assert track.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert track.level_db == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.3)
        assert len(track.file.encode()) < 200


def test_number_of_threads_changes_nothing(real_tree, tmp_path):
    root, _ = real_tree
    log = prepare([root / "My piano"], data=tmp_path, sample_rate=44100, jobs=1)
    (prepared,) = log.domains
    assert prepared.domain.tracks == load_domain(root / "data" / "My piano").tracks
    for track in prepared.domain.tracks:
        twin = root / "data" / "My piano" / track.file
        assert (prepared.domain.directory / track.file).read_bytes() == twin.read_bytes()


def test_16_bit_source_at_the_same_rate_is_stored_exactly(tmp_path, rng):
    samples = rng.integers(-32768, 32768, 2 * RATE).astype(np.int16)
    (tmp_path / "bach").mkdir()
    soundfile.write(tmp_path / "bach" / "a.wav", samples, RATE, subtype="PCM_16")
    log = prep(tmp_path / "bach", tmp_path / "data")
    np.testing.assert_array_equal(stored(log.domains[0].domain, "a.wav"), samples)


def test_samples_are_rounded_not_truncated(tmp_path):
    (tmp_path / "bach").mkdir()
    steps = np.tile([1000.4, 1000.6, -1000.4, -1000.6], RATE // 2) / 32768
    soundfile.write(tmp_path / "bach" / "a.wav", steps, RATE, subtype="FLOAT")
    log = prep(tmp_path / "bach", tmp_path / "data")
    samples = stored(log.domains[0].domain, "a.wav")
    assert samples[:4].tolist() == [1000, 1001, -1000, -1001]


def test_recording_above_full_scale_is_scaled_down_as_a_whole_with_a_notice(tmp_path):
    write_tone(tmp_path / "bach" / "loud.wav", peak=4.0, subtype="FLOAT")
    log = prep(tmp_path / "bach", tmp_path / "data")
    samples = stored(log.domains[0].domain, "loud.wav")
    assert np.abs(samples).max() == 32767
    assert np.abs(samples).mean() / 32767 == pytest.approx(2 / np.pi, abs=0.01)  # still a sine
    assert log.notices == ["bach: loud.wav is louder than full scale; scaled by -12.0 dB"]


def test_sources_with_the_same_stem_do_not_clash(tmp_path):
    for index, name in enumerate(["a.wav", "a.flac", "b/a.wav", "b a.wav", "b_a.wav"]):
        write_tone(tmp_path / "bach" / name, hz=300 + 50 * index)
    (prepared,) = prep(tmp_path / "bach", tmp_path / "data").domains
    assert len({track.file for track in prepared.domain.tracks}) == 5


def test_recording_that_changes_while_it_is_read_is_a_failure(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 2)
    changed = tmp_path / "bach" / "1.wav"
    read = convert._read

    def read_and_change(recording, *args):
        yield from read(recording, *args)
        os.utime(changed)

    monkeypatch.setattr(convert, "_read", read_and_change)
    log = prep(tmp_path / "bach", tmp_path / "data")
    ((source, reason),) = log.failures
    assert source == str(changed)
    assert "changed while it was being read" in reason


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    # Not ru_maxrss: a child begins with its parent's.
    script = (
        "import re, sys, pathlib; from core.data.prepare import prepare\n"
        "prepare([pathlib.Path(sys.argv[1])], data=pathlib.Path(sys.argv[2]))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    megabytes = {}
    for minutes in (1, 10):
        directory = tmp_path / f"{minutes}min"
        directory.mkdir()
        second = np.sin(np.arange(48000) / 10)[:, None].repeat(2, axis=1) / 2
        with soundfile.SoundFile(directory / "a.wav", "w", 48000, 2) as file:
            for _ in range(60 * minutes):
                file.write(second)
        command = [sys.executable, "-c", script, directory, tmp_path / "data"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        megabytes[minutes] = int(done.stdout) / 1024
    assert stored(load_domain(tmp_path / "data" / "10min"), "a.wav").size == 10 * 60 * 44100
    assert megabytes[10] < megabytes[1] + 10  # the ten minutes are 50 MB as int16
