"""The starter's music: what is planned for each file, from scores made up here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ["piano", "winds"]
BOTTOM, TOP = 40, 76  # of the programs that the fonts are said to have


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = set(sys.modules)
    for library in ("mido", "music21", "scipy", "soxr"):
        pytest.importorskip(library, reason="pip install -r recipes/starter/requirements.txt")
    folder = ROOT / "recipes" / "starter"
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("plan")
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def made_scores(plan: Any) -> list[Any]:
    scores = importlib.import_module("scores")
    rng = np.random.default_rng(0)
    made = []
    for kind, n_parts, count in (("chorale", 4, 30), ("movement", 3, 9), ("tune", 1, 30)):
        for number in range(count):
            notes = tuple(
                plan.Note(float(beat), 1.0, int(rng.integers(60, 80)) - 7 * part, part)
                for beat in range(64)
                for part in range(n_parts)
            )
            source = scores.Source(f"{kind}-{number}", kind, "nobody", Path(kind))
            made.append(plan.Score(source, notes))
    return made


def planned(plan: Any, minutes: float, seed: int = 0) -> list[Any]:
    reaches = {("fluid", p): (BOTTOM, TOP) for p in range(8)}
    jobs: list[Any] = plan.plan_training(
        made_scores(plan), NAMES, minutes, n_renditions=2, reaches=reaches, seed=seed
    )
    return jobs


def test_more_minutes_leave_the_files_that_are_there(plan: Any) -> None:
    few, many = ({job.file: job.key for job in planned(plan, minutes)} for minutes in (3, 8))
    assert len(many) > len(few)
    assert few.items() <= many.items()
    assert {job.key for job in planned(plan, 3, seed=1)}.isdisjoint(few.values())


def test_originals_are_dry_and_renditions_the_same_performance(plan: Any) -> None:
    jobs = planned(plan, 8)
    originals = [job for job in jobs if job.player == plan.ORIGINAL]
    for job in originals:
        assert (job.tuning_cents, job.room, job.equaliser, job.beside) == (0, None, None, None)
        domain = plan.DOMAINS[job.recipe["domain"]]
        assert all(domain.low <= event.pitch <= domain.high for event in job.events)
        stem = job.file.removeprefix("train/").removesuffix(".flac")
        own = [other for other in jobs if other.file.startswith(f"takes/{stem}/")]
        assert len(own) == 2
        assert all(other.events == job.events for other in own)


def test_only_domains_that_glide_do(plan: Any) -> None:
    bent = {
        job.recipe["domain"] for job in planned(plan, 8) if any(event.bend for event in job.events)
    }
    assert bent == {"winds"}


def test_renditions_are_by_instruments_that_reach_their_keys(plan: Any) -> None:
    checked = 0
    for job in planned(plan, 12):
        for event in job.events if job.player == plan.RECORDED_NOTES else ():
            low, high = plan.RECORDED[job.voices[event.channel]]
            assert low <= event.pitch <= high
            checked += 1
    assert checked


def test_no_rendition_is_by_the_held_out_font(plan: Any) -> None:
    assert "freepats" not in {job.player for job in planned(plan, 12)}


def test_paired_piece_has_the_same_notes_on_all_domains(plan: Any) -> None:
    domains = {name: plan.DOMAINS[name] for name in ("piano", "winds", "strings")}
    jobs = plan.plan_paired(made_scores(plan)[:4], 1, 0, domains)
    notes = {
        tuple(sorted((event.start_seconds, event.length_seconds, event.pitch) for event in events))
        for events in (job.events for job in jobs)
    }
    assert len(notes) == 1
    by_font = [job for job in jobs if job.recipe["domain"] == "winds" and job.player == "fluid"]
    for event in by_font[0].events:
        program = by_font[0].voices[event.channel]
        assert program == plan.DOMAINS["winds"].zone(event.pitch).program
