"""`umt train`: what it says and writes, and what others make of its models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import soundfile
import torch

from .conftest import RATE, TINY, logged, weights_of, write_tones


def test_run_is_named_after_the_preset_and_says_where_the_model_is(umt):
    ran = umt("train", *TINY, "--steps", 2)
    assert (ran.code, ran.stdout) == (0, b"")
    assert "umt: runs/tiny/model.safetensors holds the model of step 2" in ran.stderr.splitlines()
    assert "held-out bits/sample: bach" in ran.stderr
    assert "(chance 0.50)" in ran.stderr
    files = {path.name.split(".")[0] for path in Path("runs/tiny").iterdir()}
    logs = {"events", "lock", "log"}
    assert files == {"", "README", "best", "checkpoints", "model", "run"} | logs  # "" is .gitignore


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
    assert "has renditions of organ only" in ran.errors[0]
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


def test_only_the_first_of_several_processes_draws_a_bar(umt, monkeypatch):
    monkeypatch.setattr("core.training.loop.Accelerator.is_main_process", False)
    ran = umt("train", *TINY, "--steps", 2, stderr_is_terminal=True)
    assert (ran.code, ran.stderr) == (0, "")


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


def test_a_run_begins_with_a_model_and_is_built_like_it(umt):
    assert umt("train", *TINY, "--steps", 2).code == 0
    args = ("--from", "runs/tiny", "--run", "runs/next", "--steps", 1)
    ran = umt("train", *args)
    assert ran.code == 0
    assert "beginning with the encoder and the decoders of bach, organ of model" in ran.stderr
    facts = [json.loads(umt("info", run, "--json").stdout) for run in ("runs/tiny", "runs/next")]
    assert facts[1]["preset"] == "tiny"
    assert facts[1]["training"]["parent"]["id"] == facts[0]["id"]
