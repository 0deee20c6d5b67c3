"""`umt eval --listening-test` and `--ratings`: from clips to a page, a listener, and figures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from core.evaluation.paired import Piece
from tests.umtcli.browser import SPACE
from tests.umtcli.conftest import write_tune
from umtcli.eval.listening import N_LINEUPS as N_LINEUPS_OF_PAIRS
from umtcli.eval.listening import choose_originals

N_RATINGS, N_LINEUPS = 4, 1  # two translations of one song, each beside the unchanged song


@pytest.fixture
def translations(tmp_path):
    """A song of one second, and what passes for two translations of it."""
    for name, decay in (("song", 0), ("a", 3), ("b", 6)):
        write_tune(tmp_path / f"{name}.wav", seconds=1, decay=decay)
    return ["a.wav", "b.wav", "--source", "song.wav", "--to", "piano"]


def test_the_page_knows_nothing_of_the_key(umt, tmp_path, translations):
    ran = umt("eval", *translations, "--listening-test", "test")
    assert ran.code == 0, ran.stderr
    key = json.loads((tmp_path / "test" / "key.json").read_text())
    assert (len(key["ratings"]), len(key["lineups"])) == (N_RATINGS, N_LINEUPS)
    page = (tmp_path / "test" / "listen.html").read_text(encoding="utf-8")
    for secret in ("song.wav", "a.wav", '"copy"', '"system"', '"original"'):
        assert secret not in page


def test_a_test_is_not_overwritten(umt, translations):
    assert umt("eval", *translations, "--listening-test", "test").code == 0
    ran = umt("eval", *translations, "--listening-test", "test")
    assert ran.code == 1
    assert "exists" in ran.errors[0]


def test_paired_music_makes_a_test_with_the_true_rendering(umt, tmp_path, paired_music):
    for path in paired_music.rglob("*.wav"):  # short: every pair is translated
        waveform, rate = soundfile.read(path)
        soundfile.write(path, waveform[:rate], rate)
    ran = umt("eval", "--paired", paired_music, "--listening-test", "test")
    assert ran.code == 0, ran.stderr
    key = json.loads((tmp_path / "test" / "key.json").read_text())
    systems = [own["system"] for own in key["ratings"].values()]
    assert {name: systems.count(name) for name in systems} == {
        "translation": 4,
        "copy": 4,
        "true": 4,
    }
    assert all(own["size"] == 2 for own in key["lineups"].values())


@pytest.mark.parametrize("n_pieces", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("domains", ["ab", "abcdef"])
def test_pieces_and_domains_of_lineups_take_turns(n_pieces, domains):
    files = {"font": {name: Path(f"{name}.wav") for name in domains}}
    pieces = [Piece(str(number), "font", (), files) for number in range(n_pieces)]
    chosen = [(piece.name, domain) for piece, domain in choose_originals(pieces)]
    for places, n_places in (
        ([piece for piece, _ in chosen], n_pieces),
        ([domain for _, domain in chosen], len(domains)),
        (chosen, n_pieces * len(domains)),
    ):
        times = Counter(places).values()
        assert len(times) == min(N_LINEUPS_OF_PAIRS, n_places)
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize(
    "args",
    [
        ("--ratings",),
        ("--ratings", "a.json", "--to", "piano"),
        ("a.wav", "--listening-test", "t", "--html", "x.html"),
    ],
)
def test_wrong_usage_is_one_line(umt, args):
    ran = umt("eval", *args)
    assert ran.code == 2
    assert len(ran.errors) == 1


def test_a_file_that_holds_no_answers_is_refused_by_name(umt, tmp_path):
    (tmp_path / "a.json").write_text("[]")
    ran = umt("eval", "--ratings", "a.json")
    assert ran.code == 1
    assert "not the answers" in ran.errors[0]


def listen(browser, downloads, page, name: str) -> None:
    """Answer everything as a listener who hears the unchanged song as excellent would."""
    browser.open(page)
    browser.type("#listener", name)
    browser.click("#start button")
    for number in range(N_RATINGS + N_LINEUPS):
        text = f"Question {number + 1} of {N_RATINGS + N_LINEUPS}"
        browser.wait(f"document.getElementById('progress').textContent === '{text}'")
        n_players = browser.run("return document.querySelectorAll('audio').length")
        is_lineup = bool(browser.run("return !!document.querySelector('[name=choice]')"))
        is_same = browser.run(
            "const a = document.querySelectorAll('audio'); return a[0].src === a[1].src"
        )
        grade = 5 if is_same else 2
        for field in ("choice",) if is_lineup else ("quality", "success"):
            value = 1 if is_lineup else grade
            browser.click(f"[name={field}][value='{value}']")
        browser.click("#questions button")
        browser.wait("document.getElementById('complaint').textContent.includes('every clip')")
        for index in range(n_players):
            browser.run(f"document.querySelectorAll('audio')[{index}].focus()")
            browser.press(SPACE)
            browser.wait(f"document.querySelectorAll('audio')[{index}].dataset.heard")
        browser.click("#questions button")
    browser.wait("!document.getElementById('end').hidden")


@pytest.mark.browser
def test_listeners_answer_in_a_browser_and_are_counted(
    umt, tmp_path, translations, browser, downloads
):
    assert umt("eval", *translations, "--listening-test", "test").code == 0
    key = json.loads((tmp_path / "test" / "key.json").read_text())
    for name in ("Ann", "Bob <b>"):
        listen(browser, downloads, tmp_path / "test" / "listen.html", name)
    assert browser.complaints() == []
    assert browser.fetched() == []
    files = [downloads / f"answers-{key['test']}-{name}.json" for name in ("Ann", "Bob-b-")]
    for file in files:
        browser.wait_for_file(file)
        file.rename(tmp_path / "test" / file.name)
    ran = umt("eval", "--ratings", *(tmp_path / "test" / file.name for file in files), "--json")
    assert ran.code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["listeners"] == 2
    opinions = {own["system"]: own for own in found["results"]}
    assert opinions["copy"]["quality"] == 5
    assert opinions["translation"]["quality"] == 2
    assert opinions["translation"]["n"] == 4
    assert found["lineup"]["n"] == 2
    assert found["lineup"]["chance"] == pytest.approx(1 / 3)
    shown = umt("eval", "--ratings", *(tmp_path / "test" / file.name for file in files))
    assert b"unchanged input" in shown.stdout
    assert b"lineup" in shown.stdout
