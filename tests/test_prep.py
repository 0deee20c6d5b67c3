"""`umt prep`'s work: directories of recordings in, prepared domains out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.data import convert, update
from core.data.domain import Part, check_domain_name, write_domain_file
from core.data.prep import SPLITS, load_domain, load_domains, prepare, prepare_musicnet
from core.data.splitting import assign_tracks, carry_over, cut_track, normalise_shares, stable_order
from core.errors import DataError, UsageError

RATE = 8000
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
REPOSITORY = Path(__file__).parents[1]


def write_tone(path, *, seconds=2.0, sample_rate=RATE, n_channels=1, hz=220.0, peak=0.3, **options):
    """Write a tone, the same in all channels; another `hz` is another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_seconds = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = peak * np.sin(2 * np.pi * hz * time_seconds)
    kind = path.suffix[1:].upper()
    with path.open("wb") as file:  # soundfile cannot encode every name
        soundfile.write(
            file, np.tile(tone[:, None], n_channels), sample_rate, format=kind, **options
        )
    return path


def write_tones(directory, n_tracks, *, seconds=2.0):
    for index in range(n_tracks):
        write_tone(directory / f"{index}.wav", seconds=seconds, hz=200 + 10 * index)
    return directory


def prep(directory, data, **options):
    return prepare([directory], data=data, **{"sample_rate": RATE, **options})


def splits(domain):
    return {track.source: {part.split for part in track.parts} for track in domain.tracks}


def stored(domain, source):
    (track,) = (track for track in domain.tracks if track.source == source)
    return np.load(domain.directory / track.file, mmap_mode="r")


def tree(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@contextmanager
def no_reading(monkeypatch):
    """Make any look into a recording fail the test."""

    def refuse(*_):
        raise AssertionError("a recording was read")

    with monkeypatch.context() as patch:
        patch.setattr(update, "hash_source", refuse)
        patch.setattr(update, "store_track", refuse)
        yield


# What is stored


SHAPES = [
    ("mono.wav", {"sample_rate": 8000, "subtype": "PCM_16"}),
    ("one second.wav", {"sample_rate": 11025, "seconds": 1.0}),
    ("deep/er/high rate.wav", {"sample_rate": 96000, "subtype": "PCM_24"}),
    ("surround.wav", {"sample_rate": 48000, "n_channels": 6}),
    ("Händel/Für Elise №1.flac", {"sample_rate": 44100, "n_channels": 2}),
    ("float.wav", {"sample_rate": 22050, "subtype": "FLOAT"}),
    ("a.ogg", {"sample_rate": 44100, "n_channels": 2}),
    ("A.MP3", {"sample_rate": 48000, "n_channels": 2}),
    ("a.aiff", {"sample_rate": 32000}),
    ("dots.in.name.wav", {"sample_rate": 16000}),
    ("日本.flac", {"sample_rate": 16000}),
    (os.fsdecode(b"not utf-8 \xff.wav"), {"sample_rate": 16000}),
]


@pytest.fixture(scope="module")
def real_tree(tmp_path_factory):
    """A directory as people have them, prepared by two processes."""
    root = tmp_path_factory.mktemp("real")
    for index, (name, options) in enumerate(SHAPES):
        write_tone(root / "My piano" / name, hz=300 + 20 * index, **options)
    (root / "My piano" / "notes.txt").write_text("not audio")
    (root / "My piano" / "deep" / "loop").symlink_to(root / "My piano")
    report = prepare([root / "My piano"], data=root / "data", sample_rate=44100, jobs=2)
    return root, report


@pytest.mark.parametrize(("name", "options"), SHAPES, ids=range(len(SHAPES)))
def test_any_recording_becomes_mono_int16_of_its_length_and_sound(real_tree, name, options):
    root, report = real_tree
    assert report.failures == ()
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
        assert track.source_sha256 == convert.file_sha256(source)
        assert track.level_db == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.3)
        assert len(track.file.encode()) < 200


def test_number_of_processes_changes_nothing(real_tree, tmp_path):
    root, _ = real_tree
    report = prepare([root / "My piano"], data=tmp_path, sample_rate=44100, jobs=1)
    (prepared,) = report.domains
    assert prepared.domain.tracks == load_domain(root / "data" / "My piano").tracks
    for track in prepared.domain.tracks:
        twin = root / "data" / "My piano" / track.file
        assert (prepared.domain.directory / track.file).read_bytes() == twin.read_bytes()


def test_16_bit_source_at_the_same_rate_is_stored_exactly(tmp_path, rng):
    samples = rng.integers(-32768, 32768, 2 * RATE).astype(np.int16)
    (tmp_path / "bach").mkdir()
    soundfile.write(tmp_path / "bach" / "a.wav", samples, RATE, subtype="PCM_16")
    report = prep(tmp_path / "bach", tmp_path / "data")
    np.testing.assert_array_equal(stored(report.domains[0].domain, "a.wav"), samples)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_samples_are_rounded_not_truncated(tmp_path):
    (tmp_path / "bach").mkdir()
    steps = np.tile([1000.4, 1000.6, -1000.4, -1000.6], RATE // 2) / 32768
    soundfile.write(tmp_path / "bach" / "a.wav", steps, RATE, subtype="FLOAT")
    report = prep(tmp_path / "bach", tmp_path / "data")
    samples = stored(report.domains[0].domain, "a.wav")
    assert samples[:4].tolist() == [1000, 1001, -1000, -1001]


def test_recording_above_full_scale_is_scaled_down_as_a_whole_and_told(tmp_path):
    write_tone(tmp_path / "bach" / "loud.wav", peak=4.0, subtype="FLOAT")
    report = prep(tmp_path / "bach", tmp_path / "data")
    samples = stored(report.domains[0].domain, "loud.wav")
    assert np.abs(samples).max() == 32767
    assert np.abs(samples).mean() / 32767 == pytest.approx(2 / np.pi, abs=0.01)  # still a sine
    assert report.notices == ("bach: loud.wav is louder than full scale; scaled by -12.0 dB",)


def test_sources_with_the_same_stem_do_not_clash(tmp_path):
    for index, name in enumerate(["a.wav", "a.flac", "b/a.wav", "b a.wav", "b_a.wav"]):
        write_tone(tmp_path / "bach" / name, hz=300 + 50 * index)
    (prepared,) = prep(tmp_path / "bach", tmp_path / "data").domains
    assert len({track.file for track in prepared.domain.tracks}) == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    # Not ru_maxrss: a child begins with its parent's.
    script = (
        "import re, sys, pathlib; from core.data.prep import prepare\n"
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


# What is refused or skipped


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.wav", b"hello, this is no audio", "Format not recognised"),
        ("empty.mp3", b"", "empty"),
        ("random.flac", b"fLaC" + bytes(range(200)), "cannot be"),
    ],
)
def test_unreadable_file_is_reported_with_its_reason_and_the_others_go_on(
    tmp_path, name, content, reason
):
    write_tones(tmp_path / "bach", 2)
    (tmp_path / "bach" / name).write_bytes(content)
    report = prep(tmp_path / "bach", tmp_path / "data")
    ((source, why),) = report.failures
    assert source == str(tmp_path / "bach" / name)
    assert reason in why
    assert why
    assert source not in why
    assert splits(report.domains[0].domain).keys() == {"0.wav", "1.wav"}


def test_dangling_link_is_a_failure_and_the_others_go_on(tmp_path):
    write_tones(tmp_path / "bach", 2)
    (tmp_path / "bach" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    report = prep(tmp_path / "bach", tmp_path / "data")
    assert report.failures == ((str(tmp_path / "bach/gone.wav"), "No such file or directory"),)
    assert len(report.domains[0].domain.tracks) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seconds": 0.99}, "is skipped: it is 0.99 s long, shorter than 1 s"),
        ({"peak": 0.0}, "is skipped: it is silent from beginning to end"),
    ],
)
def test_short_and_silent_recordings_are_skipped_with_a_notice(tmp_path, options, reason):
    write_tones(tmp_path / "bach", 2)
    write_tone(tmp_path / "bach" / "odd.wav", **options)
    report = prep(tmp_path / "bach", tmp_path / "data")
    assert report.notices == (f"bach: odd.wav {reason}",)
    assert report.failures == ()
    assert len(tree(tmp_path / "data" / "bach")) == 3  # two tracks and domain.json


def test_same_content_twice_is_kept_once(tmp_path):
    write_tones(tmp_path / "bach", 3)
    shutil.copy(tmp_path / "bach" / "0.wav", tmp_path / "bach" / "copy of 0.wav")
    for _ in range(2):
        report = prep(tmp_path / "bach", tmp_path / "data")
        assert report.notices == (
            "bach: copy of 0.wav is left out: it has the same content as 0.wav",
        )
        assert splits(report.domains[0].domain).keys() == {"0.wav", "1.wav", "2.wav"}


@pytest.mark.parametrize("content", [None, "notes.txt", ".hidden.wav"])
def test_directory_without_audio_fails_alone_and_leaves_nothing(tmp_path, content):
    (tmp_path / "empty").mkdir()
    if content:
        write_tones(tmp_path / "made", 1)
        shutil.move(tmp_path / "made" / "0.wav", tmp_path / "empty" / content)
    write_tones(tmp_path / "bach", 2)
    directories = [tmp_path / "empty", tmp_path / "bach"]
    report = prepare(directories, data=tmp_path / "data", sample_rate=RATE)
    ((source, reason),) = report.failures
    assert source == str(tmp_path / "empty")
    assert "holds no audio" in reason
    assert [prepared.domain.name for prepared in report.domains] == ["bach"]
    assert not (tmp_path / "data" / "empty").exists()


def test_domain_of_unusable_recordings_fails_and_leaves_nothing(tmp_path):
    write_tone(tmp_path / "bach" / "short.wav", seconds=0.5)
    write_tone(tmp_path / "bach" / "silent.wav", peak=0.0)
    report = prep(tmp_path / "bach", tmp_path / "data")
    assert report.domains == ()
    assert report.failures == ((str(tmp_path / "bach"), "no recording in it can be used"),)
    assert tree(tmp_path / "data") == []


def test_missing_directory_changes_nothing(tmp_path):
    write_tones(tmp_path / "bach", 2)
    with pytest.raises(UsageError, match=r"nowhere does not exist"):
        prepare([tmp_path / "bach", tmp_path / "nowhere"], data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_file_in_place_of_a_directory_is_wrong_usage(tmp_path):
    write_tones(tmp_path / "bach", 1)
    with pytest.raises(UsageError, match="is a file"):
        prepare([tmp_path / "bach" / "0.wav"], data=tmp_path / "data")


@pytest.mark.parametrize(
    "names", [("x/bach", "y/bach"), ("x/Bach", "y/bach"), ("x/é", "y/e\u0301")]
)
def test_two_directories_with_one_name_are_refused_before_any_work(tmp_path, names):
    directories = [write_tones(tmp_path / name, 1) for name in names]
    with pytest.raises(UsageError, match="would both be the domain"):
        prepare(directories, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"jobs": 0},
        {"sample_rate": 10},
        {"split": (0.0, 0.5, 0.5)},
        {"split": (0.9, 0.2, -0.1)},
        {"split": (float("nan"), 0.1, 0.1)},
        {"split": (0.9, 0.1)},
        {"name": "a.b"},
    ],
)
def test_options_out_of_range_are_refused_before_any_work(tmp_path, options):
    write_tones(tmp_path / "bach", 1)
    with pytest.raises(UsageError, match="accepted"):
        prep(tmp_path / "bach", tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


# Names


@pytest.mark.parametrize("name", ["bach", "Solo Cello", "my_piano-2", "Händel", "日本", "सितार"])
def test_ordinary_names_are_accepted(name):
    assert check_domain_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "a.b", "a/b", "a,b", "-a", " a", "a ", "a\nb", "a:b", "x" * 65, "a\udcff"]
)
def test_name_that_cannot_be_a_domain_points_to_the_name_option(name):
    with pytest.raises(UsageError, match="--name"):
        check_domain_name(name)


def test_names_are_composed(tmp_path):
    write_tones(tmp_path / "Ha\u0308ndel", 2)
    prep(tmp_path / "Ha\u0308ndel", tmp_path / "data")
    assert [domain.name for domain in load_domains(tmp_path / "data", ["Ha\u0308ndel"])] == [
        "H\u00e4ndel"
    ]


def test_name_option_names_a_single_directory(tmp_path):
    write_tones(tmp_path / "v1.2", 2)
    prep(tmp_path / "v1.2", tmp_path / "data", name="bach")
    assert load_domain(tmp_path / "data" / "bach").name == "bach"
    with pytest.raises(UsageError, match="--name goes with one directory"):
        prepare([tmp_path, tmp_path / "v1.2"], data=tmp_path / "data", name="bach")


def test_current_directory_has_its_own_name(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 2)
    monkeypatch.chdir(tmp_path / "bach")
    prep(Path(), tmp_path / "data")
    assert (tmp_path / "data" / "bach" / "domain.json").exists()


# Running it again


@pytest.fixture
def bach(tmp_path):
    """A directory of six recordings, prepared."""
    write_tones(tmp_path / "bach", 6)
    prep(tmp_path / "bach", tmp_path / "data")
    return tmp_path / "bach", tmp_path / "data"


def test_second_run_reads_and_writes_nothing(bach, monkeypatch):
    directory, data = bach
    before = {path: path.stat() for path in data.rglob("*")}
    with no_reading(monkeypatch):
        report = prep(directory, data, split=(0.1, 0.1, 0.8))
    assert {path: path.stat() for path in data.rglob("*")} == before
    assert report.domains[0].n_converted == 0
    assert report.notices == ()


def test_new_date_alone_is_noted_and_nothing_converted(bach, monkeypatch):
    directory, data = bach
    before = load_domain(data / "bach")
    os.utime(directory / "3.wav", ns=(1, 1))
    report = prep(directory, data)
    after = load_domain(data / "bach")
    assert report.domains[0].n_converted == 0
    assert [replace(track, source_mtime_ns=0) for track in after.tracks] == [
        replace(track, source_mtime_ns=0) for track in before.tracks
    ]
    with no_reading(monkeypatch):
        prep(directory, data)


def test_changed_content_is_converted_again_and_keeps_its_split(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    held_out = next(source for source, split in splits(before).items() if split == {"test"})
    write_tone(directory / held_out, seconds=3.0, hz=900)
    report = prep(directory, data)
    after = load_domain(data / "bach")
    assert report.domains[0].n_converted == 1
    assert splits(after) == splits(before)
    assert stored(after, held_out).size == 3 * RATE
    assert len(tree(data / "bach")) == 7  # the old samples are gone


def test_deleted_recording_is_dropped_with_a_line(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / "3.wav").unlink()
    report = prep(directory, data)
    assert report.notices == ("bach: 3.wav is gone; dropped from the domain",)
    assert report.domains[0].n_dropped == 1
    assert splits(load_domain(data / "bach")) == {
        source: split for source, split in before.items() if source != "3.wav"
    }
    assert len(tree(data / "bach")) == 6


def test_renamed_recordings_keep_their_split(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / "sub").mkdir()
    for source in before:
        (directory / source).rename(directory / "sub" / f"new {source}")
    report = prep(directory, data)
    assert report.domains[0].n_converted == report.domains[0].n_dropped == 0
    assert splits(load_domain(data / "bach")) == {
        f"sub/new {source}": split for source, split in before.items()
    }


def test_swapped_recordings_take_their_splits_along(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    train = next(source for source, split in before.items() if split == {"train"})
    test = next(source for source, split in before.items() if split == {"test"})
    (directory / train).rename(directory / "x")
    (directory / test).rename(directory / train)
    (directory / "x").rename(directory / test)
    prep(directory, data)
    assert splits(load_domain(data / "bach")) == {**before, train: {"test"}, test: {"train"}}


def test_copy_does_not_take_the_place_of_its_original(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    shutil.copy(directory / "3.wav", directory / "0 copy.wav")
    os.utime(directory / "3.wav", ns=(1, 1))
    report = prep(directory, data)
    assert report.notices == ("bach: 0 copy.wav is left out: it has the same content as 3.wav",)
    assert splits(load_domain(data / "bach")) == splits(before)


def test_recording_that_became_unreadable_keeps_its_earlier_conversion(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    (directory / "3.wav").write_text("damaged")
    report = prep(directory, data)
    assert [source for source, _ in report.failures] == [str(directory / "3.wav")]
    assert load_domain(data / "bach") == before


def test_recording_that_became_silent_is_dropped(bach):
    directory, data = bach
    write_tone(directory / "3.wav", peak=0.0)
    report = prep(directory, data)
    assert report.notices == ("bach: 3.wav is skipped: it is silent from beginning to end",)
    assert "3.wav" not in splits(load_domain(data / "bach"))


def test_lost_samples_are_restored(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    lost = data / "bach" / before.tracks[2].file
    content = lost.read_bytes()
    lost.write_bytes(content[:1000])
    with pytest.raises(DataError, match="run the same `umt prep` again"):
        load_domain(data / "bach")
    prep(directory, data)
    assert load_domain(data / "bach") == before
    assert lost.read_bytes() == content


def test_directory_emptied_later_leaves_the_domain_as_it_was(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    shutil.rmtree(directory)
    directory.mkdir()
    assert prep(directory, data).failures
    assert load_domain(data / "bach") == before


def test_unrelated_directory_of_the_same_name_does_not_replace_a_domain(bach, tmp_path):
    directory, data = bach
    before = load_domain(data / "bach")
    write_tone(tmp_path / "other" / "bach" / "z.wav", hz=900)
    report = prep(tmp_path / "other" / "bach", data)
    ((_, reason),) = report.failures
    assert f"was made from {directory}" in reason
    assert "--name" in reason
    assert load_domain(data / "bach") == before


def test_directory_that_moved_is_not_read_again(bach, tmp_path, monkeypatch):
    directory, data = bach
    directory.rename(tmp_path / "elsewhere")
    with no_reading(monkeypatch):
        prep(tmp_path / "elsewhere", data, name="bach")
    assert load_domain(data / "bach").prepared_from == str(tmp_path / "elsewhere")


def test_another_rate_is_refused_and_says_what_to_do(bach):
    directory, data = bach
    before = tree(data)
    with pytest.raises(DataError, match=r"--rate 8000, another --out, or delete"):
        prep(directory, data, sample_rate=16000)
    assert tree(data) == before


# Interruptions and full disks


def test_interrupted_run_leaves_complete_tracks_and_the_next_one_finishes(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 4)

    def interrupt(domain, n_done, n_total):
        if n_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prep(tmp_path / "bach", tmp_path / "data", progress=interrupt)
    left = tree(tmp_path / "data" / "bach")
    assert len(left) == 2
    assert all(name.endswith(".npy") for name in left)
    (tmp_path / "data" / "bach" / ".x.npy.1.part").write_bytes(b"from a killed process")
    converted = []
    original = convert._convert
    monkeypatch.setattr(
        convert, "_convert", lambda *args: converted.append(args) or original(*args)
    )
    prep(tmp_path / "bach", tmp_path / "data")
    assert len(converted) == 2
    assert len(load_domain(tmp_path / "data" / "bach").tracks) == 4
    assert len(tree(tmp_path / "data" / "bach")) == 5


def test_interruption_within_a_track_leaves_no_file(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 1, seconds=5)
    blocks = iter([None, None, KeyboardInterrupt()])

    def interrupt():
        if isinstance(error := next(blocks, None), KeyboardInterrupt):
            raise error

    monkeypatch.setattr(convert, "check_stop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prep(tmp_path / "bach", tmp_path / "data")
    assert tree(tmp_path / "data" / "bach") == []


@pytest.fixture(scope="module")
def long_recordings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("long")
    for index in range(2):
        write_tone(directory / f"{index}.wav", seconds=300, hz=200 + index)
    return directory


@pytest.fixture
def converting(long_recordings, tmp_path):
    """A process group that is in the middle of converting two long recordings."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib; from core.data.prep import prepare\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        directory, data = map(pathlib.Path, sys.argv[1:])\n"
        "        prepare([directory], data=data, sample_rate=192000, jobs=2)\n"
        "    except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, long_recordings, tmp_path / "data"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: list(tmp_path.rglob("*.part")))
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("send", [os.killpg, os.kill])
def test_ctrl_c_ends_all_processes_at_once_and_quietly(converting, long_recordings, tmp_path, send):
    send(converting.pid, signal.SIGINT)
    _, errors = converting.communicate(timeout=20)
    assert converting.returncode == 130
    assert errors.decode() == ""
    assert tree(tmp_path / "data" / long_recordings.name) == []


def test_workers_do_not_outlive_a_killed_run(converting):
    converting.kill()
    converting.wait()
    wait_until(lambda: not is_group_alive(converting.pid))


def is_group_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_full_disk_is_an_error_of_the_data_folder_and_leaves_no_half_file(tmp_path, full_disk):
    write_tones(tmp_path / "bach", 2, seconds=20)
    expected = pytest.raises(DataError, match=r"cannot write .*data/bach.* another --out")
    with expected, full_disk(50_000):
        prep(tmp_path / "bach", tmp_path / "data")
    assert tree(tmp_path / "data" / "bach") == []


def test_data_folder_that_cannot_be_made_is_an_error(tmp_path):
    write_tones(tmp_path / "bach", 1)
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="choose another --out"):
        prep(tmp_path / "bach", tmp_path / "data")


def test_recording_that_changes_while_it_is_read_is_a_failure(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 2)
    changed = tmp_path / "bach" / "1.wav"
    monkeypatch.setattr(convert, "file_sha256", lambda path: os.utime(changed) or str(path))
    report = prep(tmp_path / "bach", tmp_path / "data")
    ((source, reason),) = report.failures
    assert source == str(changed)
    assert "changed while it was being read" in reason


def test_progress_counts_the_recordings_of_each_domain_in_this_process(tmp_path):
    calls = []
    directories = [write_tones(tmp_path / "a", 3), write_tones(tmp_path / "b", 2)]
    prepare(
        directories,
        data=tmp_path / "data",
        sample_rate=RATE,
        jobs=2,
        progress=lambda *call: calls.append((*call, os.getpid())),
    )
    for domain, total in (("a", 3), ("b", 2)):
        counts = [call[1] for call in calls if call[0] == domain]
        assert counts == sorted(counts)
        assert set(counts) == set(range(total + 1))
        assert {call[2:] for call in calls if call[0] == domain} == {(total, os.getpid())}


# Splits


@pytest.mark.parametrize(
    ("n_tracks", "expected"),
    [(2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (8, 1, 1)), (100, (80, 10, 10))],
)
def test_equal_tracks_are_divided_by_the_ratio(n_tracks, expected):
    assigned = assign_tracks({f"{i}.wav": 1000 for i in range(n_tracks)}, [], SHARES)
    assert tuple(sum(p.split == s for p in assigned.values()) for s in SPLITS) == expected


def test_split_follows_durations_not_counts():
    new = {f"{index}.wav": 100 + 37 * index % 900 for index in range(200)}
    assigned = assign_tracks(new, [], SHARES)
    total = sum(new.values())
    for split, share in SHARES.items():
        held = sum(part.stop for part in assigned.values() if part.split == split)
        assert held / total == pytest.approx(share, abs=0.01)


def test_order_of_the_directory_does_not_matter():
    new = {f"{index}.wav": 100 + index for index in range(20)}
    shuffled = dict(sorted(new.items(), key=lambda item: item[1] * 7919 % 23))
    assert assign_tracks(new, [], SHARES) == assign_tracks(shuffled, [], SHARES)
    assert stable_order(new) != sorted(new)


def test_order_is_the_same_for_composed_and_decomposed_names():
    names = ["e\u0301.wav", *(f"{index}.wav" for index in range(9))]
    composed = ["\u00e9.wav", *names[1:]]
    assert stable_order(names).index(names[0]) == stable_order(composed).index(composed[0])


@pytest.mark.parametrize("longest", ["0.wav", "1.wav", "2.wav"])
def test_longest_track_is_the_first_to_train_on(longest):
    new = {**dict.fromkeys(["0.wav", "1.wav", "2.wav"], 10), longest: 1000}
    assert assign_tracks(new, [], SHARES)[longest].split == "train"


@pytest.mark.parametrize("split", [(0.8, 0.2, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)])
def test_split_without_a_share_gets_nothing(split):
    shares = normalise_shares(split)
    assigned = assign_tracks({f"{i}.wav": 1000 + i for i in range(20)}, [], shares)
    unwanted = {name for name, share in zip(SPLITS, split, strict=True) if share == 0}
    assert not unwanted & {part.split for part in assigned.values()}
    assert not unwanted & {part.split for part in cut_track(10**6, 1000, shares)}


def test_shares_may_be_in_any_unit():
    assert normalise_shares((8, 1, 1)) == pytest.approx(SHARES)


def test_new_tracks_go_where_the_ratio_lacks_and_old_ones_stay(tmp_path):
    write_tones(tmp_path / "bach", 3)
    prep(tmp_path / "bach", tmp_path / "data")
    before = splits(load_domain(tmp_path / "data" / "bach"))
    write_tones(tmp_path / "bach", 20)
    prep(tmp_path / "bach", tmp_path / "data")
    domain = load_domain(tmp_path / "data" / "bach")
    assert splits(domain).items() >= before.items()
    assert [domain.n_tracks(split) for split in SPLITS] == [16, 2, 2]
    assert domain.minutes("train") == pytest.approx(16 * 2 / 60)


def test_deleted_test_track_is_replaced_by_the_next_new_one(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / next(s for s, split in before.items() if split == {"test"})).unlink()
    write_tone(directory / "new.wav", hz=900)
    prep(directory, data)
    assert splits(load_domain(data / "bach"))["new.wav"] == {"test"}


def test_domain_without_training_tracks_warns(tmp_path):
    write_tones(tmp_path / "bach", 2)
    prep(tmp_path / "bach", tmp_path / "data")
    before = splits(load_domain(tmp_path / "data" / "bach"))
    (tmp_path / "bach" / next(s for s, split in before.items() if split == {"train"})).unlink()
    (warning,) = prep(tmp_path / "bach", tmp_path / "data").warnings
    assert "nothing is left to train on" in warning


@pytest.mark.parametrize("seconds", [12.5, 30, 99, 250, 3600])
@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0)])
def test_cut_track_has_gaps_of_one_second_and_the_ratio(seconds, split):
    shares = normalise_shares(split)
    rate = 1000
    parts = cut_track(round(seconds * rate), rate, shares)
    assert parts[0].start == 0
    assert parts[-1].stop == round(seconds * rate)
    assert {b.start - a.stop for a, b in pairwise(parts)} == {rate}
    assert all(part.stop - part.start >= rate for part in parts)
    held = {s: sum(p.stop - p.start for p in parts if p.split == s) for s in shares}
    for name, share in shares.items():
        assert held[name] / sum(held.values()) == pytest.approx(share, abs=0.01)
    assert sum(held.values()) > 0.8 * seconds * rate


def test_long_track_is_cut_so_that_each_split_hears_all_of_it():
    parts = cut_track(3600 * 1000, 1000, SHARES)
    assert [part.split for part in parts] == list(SPLITS) * 8


def test_track_too_short_to_cut_trains_as_a_whole():
    assert cut_track(11_000, 1000, SHARES) == (Part("train", 0, 11_000),)


@pytest.mark.parametrize(("seconds", "why"), [(30, "cut into blocks"), (3, "too short to hold")])
def test_single_track_domain_warns_each_time(tmp_path, seconds, why):
    write_tones(tmp_path / "bach", 1, seconds=seconds)
    for _ in range(2):
        (warning,) = prep(tmp_path / "bach", tmp_path / "data").warnings
        assert why in warning
        assert warning.startswith("bach: one recording")


def test_cut_track_keeps_its_parts_when_others_come(tmp_path):
    write_tones(tmp_path / "bach", 1, seconds=30)
    prep(tmp_path / "bach", tmp_path / "data")
    (first,) = load_domain(tmp_path / "data" / "bach").tracks
    assert {part.split for part in first.parts} == set(SPLITS)
    write_tone(tmp_path / "bach" / "second.wav", seconds=30, hz=900)
    report = prep(tmp_path / "bach", tmp_path / "data")
    assert first in report.domains[0].domain.tracks
    assert report.warnings == ()


def test_cut_track_with_changed_content_is_cut_in_the_same_ratio():
    parts = cut_track(60_000, 1000, normalise_shares((0.6, 0.4, 0.0)))
    changed = carry_over(parts, 90_000, 1000)
    assert {part.split for part in changed} == {"train", "validation"}
    assert changed[-1].stop == 90_000
    held = [sum(p.stop - p.start for p in changed if p.split == split) for split in SPLITS]
    assert held[0] / sum(held) == pytest.approx(0.6, abs=0.001)


# Loading


def test_saved_domain_loads_as_it_was(real_tree, tmp_path):
    root, report = real_tree
    assert load_domain(root / "data" / "My piano") == report.domains[0].domain


def test_domains_load_sorted_by_name(tmp_path):
    for name in ("cello", "bach", "organ"):
        prep(write_tones(tmp_path / name, 2), tmp_path / "data")
    (tmp_path / "data" / "not a domain").mkdir()
    assert [d.name for d in load_domains(tmp_path / "data", None)] == ["bach", "cello", "organ"]
    some = load_domains(tmp_path / "data", ["organ", "bach"])
    assert [domain.name for domain in some] == ["bach", "organ"]


def test_unknown_domain_lists_the_known_ones(bach):
    _, data = bach
    with pytest.raises(DataError, match=r"no domain 'flute' in .*; it has bach"):
        load_domains(data, ["flute"])


def test_data_folder_without_domains_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(DataError, match="umt prep"):
        load_domains(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: "{", "damaged"),
        (lambda content: "[]", "damaged"),
        (lambda content: json.dumps({**content, "version": 2}), "newer"),
        (lambda content: json.dumps({**content, "format": "x"}), "damaged"),
        (lambda content: json.dumps({**content, "tracks": []}), "damaged"),
        (lambda content: json.dumps({**content, "tracks": [{}]}), "damaged"),
        (lambda content: json.dumps({**content, "sample_rate": "x"}), "damaged"),
        (lambda content: json.dumps(content).replace("train", "trian"), "damaged"),
        (lambda content: json.dumps(content).replace('"stop": 16000', '"stop": 16001'), "damaged"),
        (lambda content: json.dumps(content).replace('"file": "', '"file": "../'), "damaged"),
    ],
)
def test_damaged_domain_file_is_one_clear_error(bach, change, message):
    directory, data = bach
    file = data / "bach" / "domain.json"
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(DataError, match=message):
        load_domain(data / "bach")
    before = tree(data)
    with pytest.raises(DataError, match=message):
        prep(directory, data)
    assert tree(data) == before


def test_folder_renamed_to_something_that_is_no_name_is_refused(bach):
    _, data = bach
    (data / "bach").rename(data / "bach.old")
    with pytest.raises(DataError, match="rename the folder"):
        load_domains(data, None)


def test_overlapping_parts_are_refused(bach):
    _, data = bach
    track = load_domain(data / "bach").tracks[0]
    with pytest.raises(ValueError, match="overlap"):
        replace(track, parts=(Part("train", 0, 100), Part("test", 99, 200)))


def test_domain_file_is_replaced_whole_or_not_at_all(bach, monkeypatch):
    _, data = bach
    domain = load_domain(data / "bach")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="No space left"):
        write_domain_file(replace(domain, tracks=domain.tracks[:1]))
    assert load_domain(data / "bach") == domain
    assert len(tree(data / "bach")) == 7


def test_prep_does_not_import_torch():
    script = "import sys, core.data.prep; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


# MusicNet


MUSICNET = [
    (1727, "Schubert", "Accompanied Violin"),
    (2186, "Bach", "Solo Cello"),
    (2191, "Bach", "Solo Cello"),
    (2202, "Bach", "Solo Piano"),
    (2211, "Bach", "Solo Piano"),
    (2203, "Beethoven", "Solo Piano"),
    (2314, "Beethoven", "Solo Piano"),
    (2075, "Cambini", "Wind Quintet"),
    (2076, "Cambini", "Wind Quintet"),
    (2288, "Beethoven", "Accompanied Violin"),
    (2289, "Beethoven", "Accompanied Violin"),
    (2365, "Beethoven", "String Quartet"),
    (2368, "Beethoven", "String Quartet"),
]
COLUMNS = "id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds"


def write_musicnet(root, inner="", columns=COLUMNS):
    rows = [
        f'{number},{composer},"Suite, No. 4",2. Allegro,{ensemble},European Archive,x,BWV1,447'
        for number, composer, ensemble in MUSICNET
    ]
    root.mkdir(exist_ok=True)
    (root / "musicnet_metadata.csv").write_text("\n".join([columns, *rows, ""]))
    for index, (number, *_) in enumerate(MUSICNET):
        folder = root / inner / ("test_data" if index % 3 == 0 else "train_data")
        write_tone(folder / f"{number}.wav", hz=200 + 10 * index)
        (root / inner / "train_labels").mkdir(exist_ok=True)
    return root


@pytest.mark.parametrize("inner", ["", "musicnet"])
def test_musicnet_makes_the_six_domains_of_the_paper(tmp_path, inner):
    root = write_musicnet(tmp_path / "musicnet root", inner)
    report = prepare_musicnet(root, data=tmp_path / "data", sample_rate=RATE)
    assert report.failures == ()
    assert {prepared.domain.name for prepared in report.domains} == {
        "bach-solo-cello",
        "bach-solo-piano",
        "beethoven-accompanied-violin",
        "beethoven-solo-piano",
        "beethoven-string-quartet",
        "cambini-wind-quintet",
    }
    cello = load_domain(tmp_path / "data" / "bach-solo-cello")
    assert {Path(track.source).stem for track in cello.tracks} == {"2186", "2191"}
    assert [cello.n_tracks(split) for split in SPLITS] == [1, 1, 0]


def test_musicnet_reports_what_is_missing_and_goes_on(tmp_path):
    root = write_musicnet(tmp_path / "musicnet")
    for number in (2186, 2075, 2076):
        next(root.glob(f"*/{number}.wav")).unlink()
    report = prepare_musicnet(root, data=tmp_path / "data", sample_rate=RATE)
    assert [source for source, _ in report.failures] == [
        "2186.wav",
        "2075.wav",
        "2076.wav",
        "cambini-wind-quintet",
    ]
    assert len(report.domains) == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "musicnet_metadata.csv").unlink(), "is missing; download it"),
        (
            lambda root: (root / "musicnet_metadata.csv").write_text("id,composer\n"),
            "no column ens",
        ),
        (lambda root: (root / "musicnet_metadata.csv").write_text(""), "no column composer, ens"),
        (lambda root: (root / "musicnet_metadata.csv").write_bytes(b"\xff\xfe"), "cannot read"),
        (lambda root: [shutil.rmtree(f) for f in root.glob("t*_data")], "unpack musicnet.tar.gz"),
    ],
)
def test_what_is_no_musicnet_is_refused_clearly(tmp_path, damage, message):
    root = write_musicnet(tmp_path / "musicnet")
    damage(root)
    with pytest.raises(DataError, match=message):
        prepare_musicnet(root, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_second_prep_into_the_same_domain_is_refused_while_the_first_is_at_work(
    converting, long_recordings, tmp_path
):
    other = tmp_path / "others" / long_recordings.name
    other.mkdir(parents=True)
    (other / "x.wav").write_bytes(b"never read")
    with pytest.raises(DataError, match=r"another umt prep is at work in .*run this again"):
        prep(other, tmp_path / "data")
    assert converting.poll() is None
