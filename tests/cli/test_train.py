"""`umt train`: options, exit codes, signals, what it says and what it writes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from core.data.prep import prepare
from core.training import loop, validation

from .conftest import umt_command

RATE = 2000
TOML = f"""
[model]
sample_rate = {RATE}
hop_length = 100
latent_dim = 4
encoder_channels = 4
encoder_layers = 2
residual_channels = 4
skip_channels = 4
decoder_layers = 2
[training]
batch_size = 4
segment_seconds = 0.5
validation_items = 2
validate_steps = 10_000
clip_value = 0.0
"""
TINY = ("--preset", "tiny", "--config", "tiny.toml")


def write_tones(folder, n_harmonics, seconds, n_tracks=2):
    folder.mkdir()
    for index in range(n_tracks):
        time_seconds = np.arange(round(seconds * RATE)) / RATE
        tone = sum(
            np.sin(2 * np.pi * (110 + 17 * index) * k * time_seconds) / k
            for k in range(1, n_harmonics + 1)
        )
        soundfile.write(folder / f"{index}.wav", 0.2 * tone, RATE)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Domains made by `prepare` from WAV files of synthetic tones."""
    folder = tmp_path_factory.mktemp("recordings")
    directories = [write_tones(folder / "bach", 1, 4.0), write_tones(folder / "organ", 5, 2.0)]
    prepare(directories, data=folder / "data", sample_rate=RATE)
    return folder / "data"


@pytest.fixture(autouse=True)
def _project(prepared, tmp_path, monkeypatch):
    """A directory with `data` and a configuration of tiny networks; one thread."""
    (tmp_path / "data").symlink_to(prepared)
    (tmp_path / "tiny.toml").write_text(TOML)
    monkeypatch.setattr(loop, "_share_threads", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(validation, "EXAMPLE_SECONDS", 0.1)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # threads of processes that share a core


def logged(run):
    return [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_file(Path(run) / "model.safetensors")


def assert_close(run, other, **tolerance):
    first, second = weights_of(run), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], **tolerance)


def test_run_is_named_after_the_preset_and_says_where_the_model_is(umt):
    ran = umt("train", *TINY, "--steps", 2)
    assert (ran.code, ran.stdout) == (0, b"")
    assert "umt: runs/tiny/model.safetensors holds the model of step 2" in ran.stderr.splitlines()
    assert "held-out bits/sample: bach" in ran.stderr
    assert "(chance 0.50)" in ran.stderr
    files = {path.name.split(".")[0] for path in Path("runs/tiny").iterdir()}
    assert files == {"best", "checkpoints", "events", "lock", "log", "model", "run"}


def test_second_call_continues_and_more_steps_are_welcome(umt):
    assert umt("train", *TINY, "--steps", 2, "--run", "r").code == 0
    ran = umt("train", *TINY, "--steps", 3, "--run", "r")
    assert ran.code == 0
    assert "umt: continuing r at step 2" in ran.stderr.splitlines()
    assert [record["step"] for record in logged("r") if "learning_rate" in record] == [2, 3]


def test_best_model_is_told_of_and_can_be_used(umt, song):
    assert umt("train", *TINY, "--steps", 2, "--run", "r", "--domains", "bach").code == 0
    told = umt("info", "r").stdout.decode()
    assert re.search(r"training\.best\.step +2\n", told)
    assert re.search(r"training\.best\.figure +\d", told)
    best = ("--model", "r/best.safetensors")
    assert umt("translate", song, *best, "--to", "bach", "--seconds", 0.1, "-o", "a.wav").code == 0


def test_model_is_found_by_translate_once_trained(umt, song, monkeypatch):
    monkeypatch.delenv("UMT_MODEL")
    assert umt("train", *TINY, "--steps", 1, "--domains", "bach").code == 0
    ran = umt("translate", song, "--to", "bach", "--seconds", 0.1, "-o", "out.wav")
    assert (ran.code, ran.errors) == (0, [])
    assert "runs/tiny" in ran.stderr
    assert soundfile.info("out.wav").samplerate == RATE


def test_one_domain_is_trained_without_confusion_and_this_is_said(umt):
    ran = umt("train", *TINY, "--steps", 1, "--domains", "organ")
    assert ran.code == 0
    assert "only one domain (organ): training without the confusion term" in ran.stderr


def test_takes_are_part_of_the_run(umt):
    write_tones(Path("organ"), 3, 2.0)
    Path("takes", "organ").mkdir(parents=True)
    for track in ("0", "1"):
        Path("takes", "organ", track).mkdir()
        Path("organ", f"{track}.wav").rename(Path("takes", "organ", track, "bach.wav"))
    takes = ("--takes", "takes-data")
    assert umt("prep", "takes/organ", "--out", "takes-data", "--rate", str(RATE)).code == 0
    assert umt("train", *TINY, "--steps", "1", *takes).code == 0
    ran = umt("train", *TINY, "--steps", "2")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "other recordings of organ" in ran.errors[0]
    ran = umt("train", *TINY, "--steps", "1", "--run", "runs/b", "--domains", "bach", *takes)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "has takes of organ only" in ran.errors[0]
    assert not Path("runs/b").exists()


def test_json_tells_how_it_ended(umt):
    ran = umt("train", *TINY, "--steps", 2, "--run", "r", "--json")
    facts = json.loads(ran.stdout)
    assert (facts["command"], facts["version"], facts["step"]) == ("train", 1, 2)
    assert (facts["model"], facts["stopped_by"]) == ("r/model.safetensors", "steps")
    assert 0 < facts["validation"]["validation/bach"] < 16


def test_quiet_says_nothing(umt):
    ran = umt("train", *TINY, "--steps", 1, "-q")
    assert (ran.code, ran.stdout, ran.stderr) == (0, b"", "")


def test_progress_has_losses_accuracy_beside_chance_speed_and_time_left(umt):
    ran = umt("train", *TINY, "--steps", 10)
    (line,) = (line for line in ran.stderr.splitlines() if line.startswith("umt: step 10/10"))
    for part in ("bach ", "organ ", "confusion accuracy ", "(chance 0.50)", "items/s", "0 s left"):
        assert part in line


def test_domain_may_be_named_as_something_else_in_the_log_is(umt, prepared):
    domains = Path("named")
    domains.mkdir()
    (domains / "classifier").symlink_to(prepared / "bach")
    (domains / "confusion accuracy").symlink_to(prepared / "organ")
    ran = umt("train", *TINY, "--steps", 10, "--data", "named")
    assert ran.code == 0
    progress, heldout = (line for line in ran.stderr.splitlines() if "step 10" in line[:17])
    for line in (progress, heldout):
        assert re.search(
            r": classifier \d.*  confusion accuracy \d.*  confusion accuracy \d.*0\.50\)", line
        )
    record = logged("runs/tiny")[0]
    assert {"loss/classifier", "loss/confusion accuracy", "confusion/accuracy"} <= record.keys()


def test_terminal_sees_a_bar(umt):
    ran = umt("train", *TINY, "--steps", 2, stderr_is_terminal=True)
    assert ran.code == 0
    assert "2/2 |" in ran.stderr


def test_time_limit_saves_and_exits_with_success(umt):
    ran = umt("train", *TINY, "--max-minutes", 0, "--json")
    assert ran.code == 0
    assert json.loads(ran.stdout)["stopped_by"] == "minutes"
    assert Path("runs/tiny/model.safetensors").exists()


def test_domain_is_added_to_a_model(umt, song, monkeypatch):
    """As the README says: prepare, add, translate, look at the lineage."""
    monkeypatch.delenv("UMT_MODEL")
    assert umt("train", *TINY, "--steps", 2).code == 0
    write_tones(Path("flute"), 3, 3.0)
    assert umt("prep", "flute", "--out", "more", "--rate", RATE).code == 0
    args = ("--add-domain", "flute", "--from", "runs/tiny", "--like", "organ", "--steps", 3)
    args = (*args, "--data", "more")
    ran = umt("train", *args)
    assert ran.code == 0
    assert "umt: runs/flute/model.safetensors holds the model of step 3" in ran.stderr
    assert "training a decoder for flute, from the one of organ; the encoder" in ran.stderr
    assert "continuing runs/flute at step 3" in umt("train", *args).stderr
    old, new = weights_of("runs/tiny"), weights_of("runs/flute")
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    ran = umt("translate", song, "--to", "flute", "-o", "out.wav")
    assert ran.code == 0
    assert "model runs/flute (newest run with flute)" in ran.stderr
    facts = json.loads(umt("info", "runs/flute", "--json").stdout)
    assert facts["domains"] == ["bach", "organ", "flute"]
    parent = json.loads(umt("info", "runs/tiny", "--json").stdout)
    assert facts["training"]["parent"]["id"] == parent["id"]
    shown = umt("info", "runs/flute").stdout.decode()
    assert re.search(rf"training.parent.id +{parent['id']}", shown)
    measured = umt("eval", "--model", "runs/flute", "--data", "more")
    assert measured.code == 0
    flute = next(line for line in measured.stdout.decode().splitlines() if "flute" in line)
    assert flute.split()[-1] == "-"  # the confusion network does not know it


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--add-domain", "organ"), "--add-domain organ needs --from MODEL"),
        (("--from", "starter"), "--from starter needs --add-domain NAME"),
        (("--like", "piano"), "--like piano needs --add-domain NAME"),
        (
            ("--add-domain", "organ", "--from", "starter", "--preset", "fast"),
            "--preset fast does not go with --add-domain",
        ),
        (
            ("--add-domain", "organ", "--from", "starter", "--domains", "bach"),
            "--domains bach does not go with --add-domain",
        ),
        (("--add-domain", "a/b", "--from", "starter"), "'a/b' cannot be a domain's name"),
        (("--add-domain", "organ", "--from", "nowhere"), "no model 'nowhere'"),
        (("--add-domain", "organ", "--from", "starter"), "has a domain 'organ' already"),
        (
            ("--add-domain", "bach", "--from", "starter", "--like", "oboe"),
            "unknown domain 'oboe'; this model knows: guitar",
        ),
        (
            ("--add-domain", "bach", "--from", "starter", "--config", "deep.toml"),
            "[model] decoder_layers = 9, but",
        ),
    ],
)
def test_wrong_addition_is_one_line_and_starts_nothing(umt, args, told):
    Path("deep.toml").write_text("[model]\ndecoder_layers = 9\n")
    ran = umt("train", *args)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert told in ran.errors[0]
    assert not list(Path().glob("runs/*/run.json"))


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--preset", "huge"), "unknown preset 'huge'; known: fast, small, tiny, paper, paper-4s"),
        (("--steps", "0"), "'--steps': Input should be greater than or equal to 1"),
        (("--seed", "-1"), "'--seed': Input should be greater than or equal to 0"),
        (("--device", "cuda:1"), "training takes auto or cpu; CUDA_VISIBLE_DEVICES chooses GPUs"),
        (("--config", "missing.toml"), "missing.toml: cannot read this configuration"),
        (("--batch-size", "zwei"), "'--batch-size': Input should be a valid integer"),
    ],
)
def test_wrong_usage_is_one_line_and_starts_nothing(umt, args, told):
    ran = umt("train", *args)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert told in ran.errors[0]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "line", ["batch_size = 0", "validate_steps = 0", "decay_steps = 0", "seed = -1", "width = 3"]
)
def test_impossible_value_in_a_configuration_is_wrong_usage(umt, line):
    Path("wrong.toml").write_text(f"[training]\n{line}\n")
    ran = umt("train", "--preset", "tiny", "--config", "wrong.toml")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "wrong.toml" in ran.errors[0]
    assert line.split()[0] in ran.errors[0]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--data", "nowhere"), "no prepared domain in nowhere; make one with `umt prep DIR"),
        (("--domains", "bach,oboe"), "no domain 'oboe' in data; it has bach, organ"),
        (("--preset", "small"), "prepared at 2000 Hz and this preset needs 16000; prepare it"),
        ((*TINY, "--batch-size", "3", "--config", "two.toml"), "batch_size=3 cannot be shared"),
        (("--add-domain", "oboe", "--from", "starter"), "no domain 'oboe' in data; it"),
        (
            ("--add-domain", "bach", "--from", "starter"),
            "prepared at 2000 Hz and this preset needs",
        ),
    ],
)
def test_data_that_cannot_be_used_fails_in_one_line_and_binds_no_run(umt, args, told):
    Path("two.toml").write_text(f"{TOML}domains_per_step = 2\n")
    ran = umt("train", *args)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert told in ran.errors[0]
    assert not list(Path().glob("runs/*/run.json"))


def test_run_started_with_something_else_is_wrong_usage(umt):
    assert umt("train", *TINY, "--steps", 1, "--run", "r").code == 0
    for args, named in [
        (("--batch-size", 8), "training.batch_size = 4, now 8"),
        (("--domains", "bach"), "domains bach, organ, now bach"),
        (("--seed", 5), "training.seed = 0, now 5"),
    ]:
        ran = umt("train", *TINY, "--run", "r", *args)
        assert (ran.code, len(ran.errors)) == (2, 1)
        assert f"r was started with {named}; choose another --run" in ran.errors[0]


def test_diverged_run_fails_in_one_line(umt):
    Path("hot.toml").write_text(f"{TOML}learning_rate = 1e30\n")
    ran = umt("train", "--preset", "tiny", "--config", "hot.toml", "--steps", 50)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "lower training.learning_rate and start a new --run" in ran.errors[0]
    assert not Path("runs/tiny/model.safetensors").exists()


def start(*args, **options):
    """Start `umt train` as a process group of its own, as a terminal or a cluster does."""
    command = umt_command("train", *args)
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, **options
    )


def wait_for_lines(path, n_lines, process):
    """Wait until the process has written so many lines."""
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < n_lines:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signal_saves_and_stops_and_the_run_continues(umt, name, code):
    process = start(*TINY, "--run", "r", "--steps", 1_000_000)
    wait_for_lines(Path("r/run.json"), 1, process)
    os.killpg(process.pid, signal.Signals[name])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr.decode()
    assert b"Traceback" not in stderr
    assert b"r/model.safetensors holds the model of step" in stderr
    (checkpoint,) = Path("r/checkpoints").iterdir()
    step = int(checkpoint.stem.split("-")[1])
    ran = umt("train", *TINY, "--run", "r", "--steps", step + 1)
    assert ran.code == 0
    assert f"continuing r at step {step}" in ran.stderr


@pytest.mark.slow
def test_run_killed_at_twenty_random_moments_ends_as_an_uninterrupted_one():
    Path("often.toml").write_text(TOML.replace("validate_steps = 10_000", "validate_steps = 16"))
    args = ("--preset", "tiny", "--config", "often.toml", "--steps", 240)
    core = {min(os.sched_getaffinity(0))}  # one thread, which is as fast on networks so small
    alone = {"preexec_fn": lambda: os.sched_setaffinity(0, core)}
    start(*args, "--run", "whole", **alone).communicate(timeout=400)
    chance = random.Random(0)
    log = Path("killed/log.jsonl")
    for _ in range(20):
        n_lines = log.read_text().count("\n") if log.exists() else 0
        process = start(*args, "--run", "killed", **alone)
        # Sometimes before it has done anything new, in a save or in a validation.
        wanted = n_lines + chance.randint(-2, 1)
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < wanted):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)  # its worker lives on for a while
        process.communicate()
    start(*args, "--run", "killed", **alone).communicate(timeout=400)
    assert_close("killed", "whole", rtol=0, atol=0)
    clock = {"seconds", "seconds_left", "items_per_second", "waiting_share"}
    killed, whole = (
        [{k: v for k, v in record.items() if k not in clock} for record in logged(run)]
        for run in ("killed", "whole")
    )
    assert killed == whole


def launch(n_processes, *args):
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--cpu"),
        *("--num_processes", str(n_processes), "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "-m", "umtcli", "train"),
    ]
    return subprocess.run(
        [*command, *map(str, args)], capture_output=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("domains_per_step", [1, 2])
def test_two_processes_train_as_one_does(umt, domains_per_step):
    Path("shared.toml").write_text(f"{TOML}domains_per_step = {domains_per_step}\n")
    args = ("--preset", "tiny", "--config", "shared.toml", "--steps", 20)
    assert umt("train", *args, "--run", "one").code == 0
    ran = launch(2, *args, "--run", "two")
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stderr.decode().count("holds the model of step 20") == 1
    one, two = logged("one"), logged("two")
    assert [record["step"] for record in one] == [record["step"] for record in two]
    for record, other in zip(one, two, strict=True):
        for name in record:
            if name.startswith(("loss/", "validation/")):
                assert other[name] == pytest.approx(record[name], abs=1e-3)
    assert_close("two", "one", rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_stop_together_and_continue(umt):
    args = (*TINY, "--run", "two", "--steps")
    assert launch(2, *args, 1000, "--max-minutes", "0.02").returncode == 0
    step = logged("two")[-1]["step"]
    assert 0 < step < 1000
    ran = launch(2, *args, step + 2)
    assert ran.returncode == 0, ran.stderr.decode()
    assert f"continuing two at step {step}" in ran.stderr.decode()
    assert umt("train", *args, step + 3).code == 0  # also in another number of processes


@pytest.mark.slow
def test_error_on_the_first_process_ends_them_all(umt):
    assert umt("train", *TINY, "--run", "two", "--steps", 1).code == 0
    ran = launch(2, *TINY, "--run", "two", "--seed", 5)
    assert ran.returncode != 0
    assert ran.stderr.decode().count("umt: error:") == 1
    assert "training.seed = 0, now 5" in ran.stderr.decode()
