"""Several processes: who does which files, who reports, and that one process would do the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import UsageError
from umtcli.inputs import Input
from umtcli.processes import share_inputs

from .conftest import write_song
from .launching import errors_of, launch


def write_files(*sizes: int) -> list[Input]:
    for index, size in enumerate(sizes):
        Path(f"{index}.wav").write_bytes(bytes(size))
    return [Input(f"{index}.wav") for index in range(len(sizes))]


def test_each_input_is_done_by_one_process_in_the_order_given():
    shares = share_inputs(write_files(5, 9, 1, 7, 3, 3, 8), 3)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert all(share == sorted(share) for share in shares)


def test_processes_get_about_as_many_bytes():
    sizes = [100, 40, 30, 20, 10]
    shares = share_inputs(write_files(*sizes), 2)
    assert [sum(sizes[index] for index in share) for share in shares] == [100, 100]


def test_inputs_that_cannot_be_looked_at_are_shared_too():
    names = ["gone.wav", "a\0b.wav", "n" * 300, "also-gone.wav"]
    assert [len(share) for share in share_inputs([Input(name) for name in names], 4)] == [1] * 4


def test_stdin_is_for_one_process():
    assert share_inputs([Input("-")], 1) == [[0]]
    with pytest.raises(UsageError, match="stdin cannot be read by 2 processes; name files"):
        share_inputs([Input("-"), Input("a.wav")], 2)


@pytest.mark.parametrize(("local_rank", "n_lines"), [("0", 1), ("1", 0)])
def test_wrong_usage_is_reported_by_the_first_process_of_a_machine(
    umt, monkeypatch, local_rank, n_lines
):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    ran = umt("translate", "a.wav", "--too", "piano")
    assert (ran.code, len(ran.errors)) == (2, n_lines)


def test_a_size_without_a_launcher_means_nothing(umt, monkeypatch, song):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert umt("translate", song, "--to", "piano").code == 0


@pytest.fixture
def album():
    """Six songs, two of one name, and a file that is no song."""
    for index in range(5):
        Path(f"album/{index % 2}").mkdir(parents=True, exist_ok=True)
        write_song(Path(f"album/{index % 2}/{index}.wav"), 0.1 + 0.1 * index)
    write_song(Path("album/0/1.wav"), 0.2, level=0.1)
    Path("album/bad.wav").write_bytes(b"no song")


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("command", [("translate", "--to", "piano,organ"), ("encode",)])
def test_files_are_shared_and_the_results_are_those_of_one_process(umt, album, command):
    args = (*command, "album", "--device", "cpu", "--json", "-o", "out")
    alone = umt(*args)
    expected = contents("out")
    assert len(expected) == 6 * (2 if command[0] == "translate" else 1)
    Path("out").rename("before")
    shared = launch(*args)
    assert contents("out") == expected
    assert json.loads(shared.stdout) == json.loads(alone.stdout)
    assert (alone.code, shared.returncode) == (1, 1)
    assert [line.replace("album", "") for line in errors_of(shared)] == [
        line.replace("album", "") for line in alone.errors
    ]
    lines = shared.stderr.decode().splitlines()
    assert sum(line.startswith("umt: model ") for line in lines) == 1
    assert sum(line.startswith("umt: wrote ") for line in lines) == len(expected)


@pytest.mark.slow
def test_audio_is_evaluated_together_and_shown_once(umt, album):
    assert umt("translate", "album/0", "--to", "piano", "-o", "out").code == 0
    alone = umt("eval", "out", "--html", "alone.html", stdout_kind="data")
    shared = launch("eval", "out", "--html", "shared.html")
    assert shared.returncode == 0, shared.stderr.decode()
    assert shared.stdout == alone.stdout
    assert Path("shared.html").read_bytes() == Path("alone.html").read_bytes()
    assert json.loads(launch("eval", "out", "--json").stdout) == json.loads(
        umt("eval", "out", "--json").stdout
    )


@pytest.mark.slow
def test_more_processes_than_files_and_an_error_before_the_work(umt, song):
    ran = launch("translate", song, "--to", "piano", "-o", "p.wav", n_processes=3)
    assert ran.returncode == 0, ran.stderr.decode()
    assert Path("p.wav").is_file()
    ran = launch("translate", song, "--to", "pino", "-o", "q.wav")
    assert ran.returncode == 1  # of the launcher, whatever umt's own is
    assert len(errors_of(ran)) == 1
    assert "did you mean 'piano'?" in errors_of(ran)[0]
