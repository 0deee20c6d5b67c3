"""Prepared domains read back."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.data.domain import Part, load_domain, load_domains, write_domain_file
from core.errors import DataError

from .conftest import REPOSITORY, prep, tree, write_tones


def test_saved_domain_loads_as_it_was(real_tree, tmp_path):
    root, log = real_tree
    assert load_domain(root / "data" / "My piano") == log.domains[0].domain


def test_domains_load_sorted_by_name(tmp_path):
    for name in ("cello", "bach", "organ"):
        prep(write_tones(tmp_path / name, 2), tmp_path / "data")
    (tmp_path / "data" / "not a domain").mkdir()
    assert [d.name for d in load_domains(tmp_path / "data", None)] == ["bach", "cello", "organ"]
    some = load_domains(tmp_path / "data", ["organ", "bach"])
    assert [domain.name for domain in some] == ["bach", "organ"]


def test_unknown_domain_lists_the_known_ones(bach):
    _, data = bach
    with pytest.raises(DataError, match=r"no domain 'flute' in .*; it has bach"):
        load_domains(data, ["flute"])


def test_data_folder_without_domains_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(DataError, match="umt prep"):
        load_domains(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: "{", "damaged"),
        (lambda content: "[]", "damaged"),
        (lambda content: json.dumps({**content, "version": 2}), "newer"),
        (lambda content: json.dumps({**content, "format": "x"}), "damaged"),
        (lambda content: json.dumps({**content, "tracks": []}), "damaged"),
        (lambda content: json.dumps({**content, "tracks": [{}]}), "damaged"),
        (lambda content: json.dumps({**content, "sample_rate": "x"}), "damaged"),
        (lambda content: json.dumps(content).replace("train", "trian"), "damaged"),
        (lambda content: json.dumps(content).replace('"stop": 16000', '"stop": 16001'), "damaged"),
        (lambda content: json.dumps(content).replace('"file": "', '"file": "../'), "damaged"),
        (lambda content: json.dumps(content).replace('"level_db": -', '"level_db": -9'), "damaged"),
        (lambda content: json.dumps({**content, "sample_rate": 10**9}), "damaged"),
        (lambda content: json.dumps({**content, "tracks": content["tracks"][:1] * 2}), "damaged"),
    ],
)
def test_damaged_domain_file_is_one_clear_error(bach, change, message):
    directory, data = bach
    file = data / "bach" / "domain.json"
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(DataError, match=message):
        load_domain(data / "bach")
    before = tree(data)
    ((place, reason),) = prep(directory, data).failures
    assert place == str(directory)
    assert message in reason
    assert tree(data) == before


def test_folder_renamed_to_something_that_is_no_name_is_refused(bach):
    _, data = bach
    (data / "bach").rename(data / "bach.old")
    with pytest.raises(DataError, match="rename the directory"):
        load_domains(data, None)


def test_overlapping_parts_are_refused(bach):
    _, data = bach
    track = load_domain(data / "bach").tracks[0]
    with pytest.raises(ValueError, match="overlap"):
        replace(track, parts=(Part("train", 0, 100), Part("test", 99, 200)))


def test_domain_file_is_replaced_whole_or_not_at_all(bach, monkeypatch):
    _, data = bach
    domain = load_domain(data / "bach")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="No space left"):
        write_domain_file(replace(domain, tracks=domain.tracks[:1]))
    assert load_domain(data / "bach") == domain
    assert len(tree(data / "bach")) == 7


def test_prep_does_not_import_torch():
    script = "import sys, core.data.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)
