"""What `umt eval` reads and shows: every file gives a value or an error that names it."""

from __future__ import annotations

import json
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from core.errors import DataError, ModelError
from core.evaluation import EVALUATION_RATE
from core.evaluation.analysis import Analysis
from core.evaluation.classifier_cache import shipped_classifier
from core.evaluation.listening import (
    ANSWERS_MARK,
    KEY_MARK,
    Answers,
    Choice,
    RatedClip,
    Rating,
    make_test,
    read_answers,
)
from core.evaluation.song import evaluate_song
from core.metrics.timbre import TimbreClassifier
from core.metrics.timbre.classifier import METADATA_KEY
from umtcli.eval.inputs import EvalInput
from umtcli.eval.page import audio_page, audio_section, listening_page

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**4000, max_value=10**4001),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "..", "/dev/zero", "a\0b", "x" * 300, "true", "\ud800", "[red]\x1b[31m"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def changed(values, path, value):
    """Return plain values with the one at a path replaced; the path is taken modulo what exists."""
    copy = json.loads(json.dumps(values))
    place, steps = copy, list(path)
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return copy
        key = keys[steps.pop(0) % len(keys)]
        if not steps or not isinstance(place[key], dict | list) or not place[key]:
            place[key] = value
            return copy
        place = place[key]


def value_or_line(kind, read):
    """Return what was read, or the error's message, which is one line."""
    try:
        return read()
    except kind as error:
        message = str(error)
    (line,) = message.splitlines()
    return line


@pytest.fixture(scope="module")
def listening_test():
    source, output = (
        np.random.default_rng(seed).standard_normal(800).astype(np.float32) for seed in (0, 1)
    )
    return make_test([RatedClip("true", "song", "piano", source, output)], [], 8000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@given(is_key=st.booleans(), path=st.lists(st.integers(0, 9), min_size=1, max_size=4), value=VALUES)
def test_answers_and_keys_are_read_or_refused_by_name(listening_test, folder, is_key, path, value):
    key = {KEY_MARK: 1, **asdict(listening_test.key)}
    (trial,) = listening_test.trials.ratings
    own = Answers(listening_test.key.test, "a", [Rating(trial.id, 3, 4)], [Choice("x", "y")])
    answers = {ANSWERS_MARK: 1, **asdict(own), "lineups": []}
    if is_key:
        key = changed(key, path, value)
    else:
        answers = changed(answers, path, value)
    (folder / "key.json").write_text(json.dumps(key))
    (folder / "a.json").write_text(json.dumps(answers))
    found = value_or_line(DataError, lambda: read_answers([folder / "a.json"]))
    assert ".json: " in found if isinstance(found, str) else found.n_listeners == 1


@given(data=st.binary(max_size=200))
def test_other_bytes_are_no_answers(folder, data):
    (folder / "b.json").write_bytes(data)
    with pytest.raises(DataError, match=r"b\.json"):
        read_answers([folder / "b.json"])


def test_a_device_that_never_ends_is_refused():
    from pathlib import Path

    with pytest.raises(DataError, match="/dev/zero: not the answers"):
        read_answers([Path("/dev/zero")])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return the parts of the shipped classifier's file, and a place for others."""
    path = tmp_path_factory.mktemp("classifiers") / "timbre.safetensors"
    shipped_classifier().save(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[METADATA_KEY])
        return path, header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=4), value=VALUES)
def test_a_classifiers_header_is_read_or_refused_by_name(stored, path, value):
    file, header, tensors = stored
    save_file(tensors, file, metadata={METADATA_KEY: json.dumps(changed(header, path, value))})
    found = value_or_line(ModelError, lambda: TimbreClassifier.load(file))
    if isinstance(found, str):
        assert "timbre.safetensors: " in found
    else:
        assert len(found.domains) == len(header["domains"])


@given(index=st.integers(0, 99), what=st.sampled_from(["missing", "nan", "short", "double"]))
def test_a_classifiers_tensors_are_read_or_refused_by_name(stored, index, what):
    file, header, tensors = stored
    name = sorted(tensors)[index % len(tensors)]
    tensor = tensors[name]
    other = {
        "missing": None,
        "nan": tensor * float("nan"),
        "short": tensor[..., :-1].contiguous(),
        "double": tensor.double(),
    }[what]
    kept = {own: value for own, value in tensors.items() if own != name}
    changed_tensors = kept if other is None else kept | {name: other}
    save_file(changed_tensors, file, metadata={METADATA_KEY: json.dumps(header)})
    # Of the network, load_state_dict takes other dtypes as they are.
    if what == "double" and not name.startswith("reference/"):
        TimbreClassifier.load(file)
    else:
        with pytest.raises(ModelError, match=r"timbre\.safetensors"):
            TimbreClassifier.load(file)


@given(length=st.integers(0, 4000))
def test_a_classifier_that_was_cut_off_is_refused(stored, length):
    file, header, tensors = stored
    save_file(tensors, file, metadata={METADATA_KEY: json.dumps(header)})
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"timbre\.safetensors"):
        TimbreClassifier.load(file)


class Elements(HTMLParser):
    """The names of a page's elements, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)


@pytest.fixture(scope="module")
def figures():
    waveform = 0.1 * np.sin(np.arange(4000) / 20).astype(np.float32)
    return waveform, evaluate_song(Analysis(waveform, EVALUATION_RATE, shipped_classifier()))


NAMES = st.text(st.characters(), min_size=1, max_size=30) | st.sampled_from(
    ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\udcff.wav", "{{ 1 }}"]
)


@given(name=NAMES, source=NAMES, target=NAMES)
def test_no_name_adds_an_element_to_the_page(figures, tmp_path, name, source, target):
    waveform, found = figures

    def page(*names: str) -> str:
        own = EvalInput(names[0], waveform, names[1], waveform, names[2])
        return audio_page([audio_section(own, found)])

    made = page(name, source, target)
    assert Elements(made).names == Elements(page("a", "b", "c")).names
    assert made.encode("utf-8", "backslashreplace")


@given(target=NAMES)
def test_no_target_ends_the_data_of_a_listening_test(target):
    waveform = np.ones(80, np.float32)
    test = make_test([RatedClip("copy", "song", target, waveform, waveform)], [], 8000)
    page = listening_page(test, 8000)
    data = page.split('id="test-data">')[1].split("</script>")[0]
    assert json.loads(data)["ratings"][0]["target"] == target
