"""The page of `umt eval --html`: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.umtcli.browser import LEFT, SPACE, TAB
from tests.umtcli.conftest import write_tune

# The last letters would turn the rest of its line around.
NASTY = "<img src=x onerror=alert(1)>&\"'\u202egnp.wav"
FOCUS = "document.querySelectorAll('audio')[{0}].focus()"
TIME = "document.querySelectorAll('audio')[{0}].currentTime > 0.1"


class Page(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def test_the_page_carries_all_it_shows_and_escapes_names(umt, tmp_path):
    write_tune(tmp_path / NASTY)
    write_tune(tmp_path / "source.wav", decay=0)
    options = ("--source", "source.wav", "--reference", "source.wav", "--to", "organ")
    ran = umt("eval", NASTY, *options, "--html", "page.html")
    assert ran.code == 0, ran.stderr
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("audio")) == 3  # source, translation, reference
    for tag in ("audio", "img"):
        assert all(attrs["src"].startswith("data:") for attrs in page.all(tag))
    assert not any("onerror" in attrs for _, attrs in page.elements)
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", text)
    explained = {attrs["id"] for attrs in page.all("dt")}
    linked = {attrs["href"].removeprefix("#") for attrs in page.all("a")}
    assert linked == explained
    assert all(len(attrs["title"]) > 20 for attrs in page.all("a")), "shown on hovering"
    assert "default-src 'none'" in text


def test_an_existing_page_is_kept_unless_forced(umt, tmp_path):
    tune = write_tune(tmp_path / "tune.wav")
    (tmp_path / "page.html").write_text("mine")
    ran = umt("eval", tune, "--html", "page.html")
    assert ran.code == 1
    assert (tmp_path / "page.html").read_text() == "mine"
    assert umt("eval", tune, "--html", "page.html", "-f").code == 0
    assert "<audio" in (tmp_path / "page.html").read_text()


@pytest.mark.browser
def test_a_browser_plays_the_page_and_fetches_nothing(umt, tmp_path, browser):
    write_tune(tmp_path / NASTY)
    write_tune(tmp_path / "source.wav", decay=0)
    assert umt("eval", NASTY, "--source", "source.wav", "--html", "page.html").code == 0
    browser.open(tmp_path / "page.html")
    browser.wait("[...document.querySelectorAll('audio')].every(a => a.duration > 3.9)")
    browser.wait("[...document.querySelectorAll('img')].every(i => i.naturalWidth > 50)")
    assert NASTY in browser.run("return document.querySelector('h2').textContent")
    assert browser.run("return document.querySelector('h1 + p bdi').textContent") == NASTY
    browser.run(FOCUS.format(0))
    browser.press(SPACE)
    browser.wait(TIME.format(0))
    browser.run(FOCUS.format(1))
    browser.press(SPACE)
    browser.wait(TIME.format(1))
    assert browser.run("return document.querySelectorAll('audio')[0].paused")
    assert browser.run("return document.querySelector('.picture i').style.left") != "0%"
    assert browser.fetched() == []
    assert browser.complaints() == []


@pytest.mark.browser
def test_source_and_translation_share_a_playhead(umt, tmp_path, browser):
    write_tune(tmp_path / "out.wav", seconds=16)
    write_tune(tmp_path / "source.wav", seconds=16, decay=0)
    assert umt("eval", "out.wav", "--source", "source.wav", "--html", "page.html").code == 0
    browser.open(tmp_path / "page.html")
    browser.wait("[...document.querySelectorAll('audio')].every(a => a.duration > 15)")
    browser.click(".picture")  # in its middle
    moved = "[...document.querySelectorAll('audio')].every(a => a.currentTime > 7.5)"
    browser.wait(moved)
    browser.press("2")  # the translation, from where the source was left
    browser.wait("!document.querySelectorAll('audio')[1].paused")
    assert browser.run(f"return {moved}")
    pressed = "document.querySelectorAll('.switch button')[{}].getAttribute('aria-pressed')"
    assert browser.run(f"return {pressed.format(1)}") == "true"
    browser.press("1")
    browser.wait("document.querySelectorAll('audio')[1].paused")
    assert browser.run(f"return {moved}")
    browser.press(SPACE)
    browser.wait("document.querySelectorAll('audio')[0].paused")
    before = browser.run("return document.querySelectorAll('audio')[0].currentTime")
    browser.press(LEFT)
    is_there = f"Math.abs(a.currentTime - {before - 5}) < 1"
    browser.wait(f"[...document.querySelectorAll('audio')].every(a => {is_there})")
    assert browser.run("return document.querySelectorAll('.seconds span').length") >= 4
    assert browser.complaints() == []


# The colours of a text and of what lies behind it, red, green and blue from 0 to 255.
COLOURS = """
const own = document.querySelector(arguments[0]);
own.style.backgroundColor = "Canvas";
const style = getComputedStyle(own);
const numbers = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
return [style.color, style.backgroundColor].map(numbers);
"""


def contrast(colours) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, 1 to 21."""
    shares = np.array(colours) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_readably(umt, tmp_path, browser, scheme):
    write_tune(tmp_path / f"{'long-name-' * 9}.wav")
    write_tune(tmp_path / "source.wav", decay=0)
    names = (f"{'long-name-' * 9}.wav", "--source", "source.wav", "--to", "organ")
    assert umt("eval", *names, "--html", "page.html").code == 0
    with browser.phone(scheme=scheme):
        browser.open(tmp_path / "page.html")
        browser.wait("[...document.querySelectorAll('audio')].every(a => a.duration > 3.9)")
        assert browser.run(f"return matchMedia('(prefers-color-scheme: {scheme})').matches")
        assert browser.run("return innerWidth") == 360
        assert browser.run("return document.documentElement.scrollWidth") == 360, "no wider"
        assert browser.run("return document.querySelectorAll('.seconds span').length") >= 4
        for text in (".summary", ".quiet", "td", "tr.unusual td.value", "tbody th a", "dd"):
            assert contrast(browser.run(COLOURS, text)) >= 4.5, text
        widths = browser.run(
            "return [...document.querySelectorAll('figure')].map(own => own.clientWidth)"
        )
        assert min(widths) > 300, "one below the other"


@pytest.mark.browser
def test_the_matrix_works_by_keyboard(umt, tmp_path, paired_music, browser):
    ran = umt("eval", "--paired", paired_music, "--html", "page.html")
    assert ran.code == 0, ran.stderr
    browser.open(tmp_path / "page.html")
    browser.wait("document.querySelectorAll('.matrix button').length === 2")
    cell = "document.querySelectorAll('.matrix button')[{}]"
    before = browser.run(f"return {cell.format(0)}.textContent")
    browser.run("document.getElementById('metric').focus()")
    browser.press("log")  # a menu jumps to the entry that begins so
    browser.wait("document.getElementById('metric').value === 'log_spectral_distance_db'")
    assert browser.run(f"return {cell.format(0)}.textContent") != before
    assert browser.run(f"return {cell.format(0)}.title").startswith("score ")
    caption = "document.querySelector('#clip-translation figcaption').textContent"
    assert browser.run(f"return {caption}") == "organ → piano, translated"
    browser.press(TAB + TAB + SPACE)  # the second cell, pressed
    browser.wait(f"{caption} === 'piano → organ, translated'")
    browser.wait("document.querySelector('#clip-translation audio').duration > 1.9")
    assert browser.run(f"return {cell.format(1)}.getAttribute('aria-pressed')") == "true"
    assert browser.complaints() == []
    assert browser.fetched() == []


def test_a_name_that_is_not_utf8_costs_nothing(umt, tmp_path):
    name = os.fsdecode(b"so\xffng.wav")
    write_tune(tmp_path / "tune.wav", seconds=1).rename(tmp_path / name)
    ran = umt("eval", name, "--html", "page.html")
    assert ran.code == 0, ran.stderr
    assert "so\\udcffng.wav" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert b"so\\udcffng.wav" in ran.stdout
