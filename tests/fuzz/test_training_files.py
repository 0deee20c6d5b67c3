"""Files of a run that anybody may have written: every answer is a value or an error of umt's own.

A checkpoint that cannot be used is passed over with a line, a damaged `run.json` is named, and
half a log is cut.
"""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import TrainingError, UmtError
from core.training.logging import LOG_FILE, cut_log
from core.training.loop import Trainer
from core.training.run_directory import RUN_FILE, RunDirectory, restore_newest, save_checkpoint

from ..core.training.conftest import RecordingReporter, store_music, tiny_config
from .test_data_files import VALUES, dump, places, put

TENSORS = st.sampled_from(
    [torch.zeros(3), torch.zeros(0), torch.tensor(float("nan")), torch.zeros((), dtype=torch.int8)]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has been started, with a checkpoint, and the trainer that made it."""
    folder = tmp_path_factory.mktemp("run")
    directory = RunDirectory(folder / "run")
    directory.path.mkdir()
    trainer = Trainer(
        *(tiny_config(), store_music(folder / "data", bass=2.0, reed=2.0), directory),
        accelerator=Accelerator(cpu=True),
        reporter=RecordingReporter(),
    )
    trainer.updater.update(trainer.batches[0], 0)
    trainer.progress.step = 1
    trainer._save()
    return trainer


@pytest.fixture(scope="module")
def domains(run):
    return [segments.domain for segments in run.batches.segments]


@pytest.fixture(scope="module")
def run_file(run, domains):
    run.directory.check(run.config, domains, {})
    path = run.directory.path / RUN_FILE
    return path, path.read_bytes()


def check(run, domains, path, data):
    """Check a `run.json`; returns the error, if there is one."""
    path.write_bytes(data)
    try:
        run.directory.check(run.config, domains, {})
    except UmtError as error:
        return error
    return None


@given(data=st.data())
def test_run_file_with_any_value_at_any_place_is_answered_in_one_line(run, domains, run_file, data):
    path, content = run_file
    values = json.loads(content)
    place = data.draw(st.sampled_from(places(values)))
    error = check(run, domains, path, dump(put(values, place, data.draw(VALUES))))
    assert error is None or (str(run.directory.path) in str(error) and "\n" not in str(error))


@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"[" * 100_000)
@example(data=b'{"config": {}, "domains": {}}')
def test_run_file_of_any_bytes_is_an_error_that_names_it(run, domains, run_file, data):
    error = check(run, domains, run_file[0], data)
    assert isinstance(error, TrainingError)
    assert RUN_FILE in str(error)
    assert "choose another --run" in str(error)


@given(cut=st.integers(0, 10_000), flipped=st.integers(0, 10_000))
def test_damaged_run_file_is_answered(run, domains, run_file, cut, flipped):
    path, content = run_file
    damaged = bytearray(content[: max(1, cut % len(content))])
    damaged[flipped % len(damaged)] ^= 0x08
    error = check(run, domains, path, bytes(damaged))
    assert error is None or "\n" not in str(error)


@pytest.fixture(scope="module")
def state(run) -> dict[str, Any]:
    """What the run's checkpoint holds."""
    (path,) = run.directory.checkpoints.iterdir()
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    return stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for one checkpoint."""
    return tmp_path_factory.mktemp("checkpoints")


def is_passed_over(trainer, folder, state_or_bytes):
    """Restore from a folder that holds one checkpoint; tell whether it was passed over."""
    path = folder / "step-000000002.pt"
    if isinstance(state_or_bytes, bytes):
        path.write_bytes(state_or_bytes)
    else:
        torch.save(state_or_bytes, path)
    lines: list[str] = []
    answer = ""
    try:
        restore_newest(folder, trainer.load_state_dict, lines.append)
    except TrainingError as error:
        answer = str(error)
    if not answer:
        assert not lines
        return False
    assert answer.startswith(f"{folder}: all checkpoints")
    (line,) = lines
    assert line.startswith(f"{path} is damaged or of another run")
    return True


@given(data=st.data())
def test_checkpoint_with_any_value_at_any_place_is_passed_over_or_trains_on(
    run, state, folder, data
):
    part = data.draw(st.sampled_from(list(state)))
    inside = [(part, *place) for place in places(state[part])]
    changed = put(state, data.draw(st.sampled_from(inside)), data.draw(VALUES | TENSORS))
    if not is_passed_over(run, folder, changed):
        with suppress(UmtError):  # of weights that are not finite
            run.updater.update(run.batches[0], run.progress.step)
            run._save()
        run.load_state_dict(state)


@given(data=st.binary(max_size=300))
def test_checkpoint_of_any_bytes_is_passed_over(run, folder, data):
    assert is_passed_over(run, folder, data)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as parts:
        parts.writestr("archive/data.pkl", data)
    assert is_passed_over(run, folder, archive.getvalue())


def test_checkpoint_of_another_model_is_passed_over(run, state, tmp_path):
    other = put(state, ("model",), {"weight": torch.zeros(3)})
    assert is_passed_over(run, tmp_path, other)
    save_checkpoint(tmp_path, 1, state)
    lines: list[str] = []
    assert restore_newest(tmp_path, run.load_state_dict, lines.append)
    assert len(lines) == 1


@given(lines=st.lists(st.binary(max_size=60) | VALUES.map(dump), max_size=8))
def test_log_of_any_lines_is_cut_to_records(folder, lines):
    path = folder / LOG_FILE
    record = b'{"step": 3}'
    path.write_bytes(b"\n".join([*lines, record, b'{"step": 9}']))
    cut_log(path, 5)
    kept = path.read_bytes().splitlines()
    assert record in kept
    assert all(json.loads(line)["step"] <= 5 for line in kept)
