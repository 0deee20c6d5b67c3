"""`umt train`: wrong usage and data that cannot be used; one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import TINY, TOML


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--add-domain", "organ"), "--add-domain organ needs --from MODEL"),
        (("--from", "nowhere"), "no model 'nowhere'"),
        (("--from", "starter", "--preset", "tiny"), "[model] sample_rate = 16000, but"),
        (("--from", "starter", "--like", "organ"), "--like organ needs --add-domain NAME"),
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
            "unknown domain 'oboe'; this model has guitar",
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
        (
            ("--preset", "huge"),
            "unknown preset 'huge'; known: fast, small, tiny, paper, paper-code",
        ),
        (("--steps", "0"), "'--steps': Input should be greater than or equal to 1"),
        (("--seed", "-1"), "'--seed': Input should be greater than or equal to 0"),
        (("--device", "cuda:1"), "training takes auto or cpu; CUDA_VISIBLE_DEVICES chooses GPUs"),
        (("--log-with", "wandbb"), "expected tensorboard, wandb or trackio; did you mean 'wandb'?"),
        (("--from", "hf:owner"), "'hf:owner': expected hf:owner/name[@revision][/file]"),
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
