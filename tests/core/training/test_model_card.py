"""The page of a run's model: what it states, that the hub understands it, whose it is."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from core.training.model_card import may_replace, model_card
from core.translator import Translator

from .conftest import tiny_config

RECORD = {
    "steps": 1800,
    "seconds": 5400,
    "updates": {"bass": 1800, "reed": 900},
    "figures": {"validation/bass": 1.25, "validation/reed": 2.5, "confusion/validation": 0.5},
    "baselines": {"bass": {"silence": 3.0}, "reed": {"silence": 4.0, "guess": 8.0}},
    "best": {"step": 1200, "figure": 1.75},
    "minutes": {
        "bass": {"train": 12.5, "validation": 2.0, "test": 0.0},
        "reed": {"train": 3.0, "validation": 0.5, "test": 0.5},
    },
    "recordings": {
        "bass": {"train": 7, "validation": 1, "test": 0},
        "reed": {"train": 2, "validation": 1, "test": 1},
    },
}


def make_model(domains=("bass", "reed"), **record):
    model = Translator.create(tiny_config(), list(domains))
    model.training_record = {**RECORD, **record}
    return model


def rows_of(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_hub_reads_its_header_and_no_licence_is_claimed():
    card = ModelCard(model_card(make_model(), "duo"))
    assert (card.data.library_name, card.data.pipeline_tag) == ("umt", "audio-to-audio")
    assert {"umt", "music", "timbre-transfer"} <= set(card.data.tags)
    assert card.data.license is None
    assert "add `license:` to the header" in " ".join(card.text.split())


def test_it_states_domains_figures_and_data():
    page = model_card(make_model(), "duo")
    rows = rows_of(page)
    assert ["domains", "bass, reed"] in rows
    assert ["trained for", "1,800 updates, 1.5 hours"] in rows
    assert ["domain", "this model", "silence", "guess", "updates of its decoder"] in rows
    assert ["bass", "1.250", "3.000", "-", "1,800"] in rows
    assert ["reed", "2.500", "4.000", "8.000", "900"] in rows
    assert ["bass", "12.5 min (7)", "2.0 min (1)", "0.0 min (0)"] in rows
    assert ["`best.safetensors`", "as of 1,200 updates, mean figure 1.750"] in rows
    assert "umt translate song.wav --to bass -m hf:OWNER/duo" in page


def test_it_names_the_model_that_it_began_with():
    parent = {"id": "0123456789ab", "domains": ["bass"]}
    rows = rows_of(model_card(make_model(parent=parent, added="reed"), "duo"))
    assert ["began with", "model 0123456789ab (bass)"] in rows
    assert ["trained domain", "reed; all else is as it was in that model"] in rows


def test_a_run_without_validation_says_so():
    page = model_card(make_model(figures={}, best={}), "duo")
    assert "None yet: there was no validation" in page
    assert "best.safetensors" not in page


@pytest.mark.parametrize("name", ["a|b", "<script>", "*loud*", "it's [x](y)"])
def test_names_are_text_wherever_they_stand(name):
    page = model_card(make_model([name, "reed"]), name)
    assert "<script>" not in page.replace("--to '<script>'", "")  # in a block of code
    assert all(len(row) == 2 for row in rows_of(page)[:4])
    assert ModelCard(page).data.library_name == "umt"


def test_a_page_may_be_replaced_until_somebody_edits_it(tmp_path):
    path = tmp_path / "README.md"
    assert may_replace(path)
    page = model_card(make_model(), "duo")
    path.write_text(page)
    assert may_replace(path)
    for edited in (page.replace("umt\n", "umt\nlicense: mit\n", 1), page + "x", page[:-5], ""):
        path.write_text(edited)
        assert not may_replace(path), edited
    path.write_bytes(b"\xff\xfe")
    assert not may_replace(path)


def test_a_run_has_a_page_that_follows_it_until_it_is_edited(duo, tmp_path, train, reporter):
    run = tmp_path / "duo"
    train(tiny_config(steps=1), duo, run)
    page = run / "README.md"
    assert ["trained for", "1 updates, 0.0 hours"] in rows_of(page.read_text())
    assert {"checkpoints/", "lock", "wandb/"} <= set((run / ".gitignore").read_text().split())
    train(tiny_config(steps=2), duo, run)
    assert ["trained for", "2 updates, 0.0 hours"] in rows_of(page.read_text())
    assert not any("README.md" in text for text in reporter.notices)
    edited = page.read_text().replace("umt\n", "umt\nlicense: cc0-1.0\n", 1)
    page.write_text(edited)
    train(tiny_config(steps=3), duo, run)
    assert page.read_text() == edited
    assert [text for text in reporter.notices if "README.md was edited, and stays" in text]


def test_what_is_not_ignored_is_a_model_that_others_can_use(duo, tmp_path, train):
    run = tmp_path / "duo"
    train(tiny_config(steps=1), duo, run)
    ignored = (run / ".gitignore").read_text().split()
    shared = {
        path.relative_to(run).as_posix()
        for path in run.rglob("*")
        if path.is_file()
        and not any(path.match(pattern) or f"{path.parent.name}/" == pattern for pattern in ignored)
    }
    assert shared == {
        *("README.md", ".gitignore", "run.json", "log.jsonl"),
        *("model.safetensors", "best.safetensors"),
    }
