"""MusicNet's recordings as the paper's six domains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.data.domain import SPLITS, load_domain
from core.data.prepare import prepare_musicnet
from core.data.score import read_notes
from core.errors import DataError

from .conftest import RATE, write_tone

MUSICNET = [
    (1727, "Schubert", "Accompanied Violin"),
    (2186, "Bach", "Solo Cello"),
    (2191, "Bach", "Solo Cello"),
    (2202, "Bach", "Solo Piano"),
    (2211, "Bach", "Solo Piano"),
    (2203, "Beethoven", "Solo Piano"),
    (2314, "Beethoven", "Solo Piano"),
    (2075, "Cambini", "Wind Quintet"),
    (2076, "Cambini", "Wind Quintet"),
    (2288, "Beethoven", "Accompanied Violin"),
    (2289, "Beethoven", "Accompanied Violin"),
    (2365, "Beethoven", "String Quartet"),
    (2368, "Beethoven", "String Quartet"),
]
COLUMNS = "id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds"


def write_musicnet(root, inner="", columns=COLUMNS):
    rows = [
        f'{number},{composer},"Suite, No. 4",2. Allegro,{ensemble},European Archive,x,BWV1,447'
        for number, composer, ensemble in MUSICNET
    ]
    root.mkdir(exist_ok=True)
    (root / "musicnet_metadata.csv").write_text("\n".join([columns, *rows, ""]))
    for index, (number, *_) in enumerate(MUSICNET):
        folder = root / inner / ("test_data" if index % 3 == 0 else "train_data")
        write_tone(folder / f"{number}.wav", hz=200 + 10 * index)
        (root / inner / "train_labels").mkdir(exist_ok=True)
    return root


@pytest.mark.parametrize("inner", ["", "musicnet"])
def test_musicnet_makes_the_six_domains_of_the_paper(tmp_path, inner):
    root = write_musicnet(tmp_path / "musicnet root", inner)
    log = prepare_musicnet(root, data=tmp_path / "data", sample_rate=RATE)
    assert log.failures == []
    assert {prepared.domain.name for prepared in log.domains} == {
        "bach-solo-cello",
        "bach-solo-piano",
        "beethoven-accompanied-violin",
        "beethoven-solo-piano",
        "beethoven-string-quartet",
        "cambini-wind-quintet",
    }
    cello = load_domain(tmp_path / "data" / "bach-solo-cello")
    assert {Path(track.source).stem for track in cello.tracks} == {"2186", "2191"}
    assert [cello.n_tracks(split) for split in SPLITS] == [1, 1, 0]


def test_musicnet_reports_what_is_missing_and_goes_on(tmp_path):
    root = write_musicnet(tmp_path / "musicnet")
    for number in (2186, 2075, 2076):
        next(root.glob(f"*/{number}.wav")).unlink()
    log = prepare_musicnet(root, data=tmp_path / "data", sample_rate=RATE)
    assert [source for source, _ in log.failures] == [
        "2186.wav",
        "2075.wav",
        "2076.wav",
        "cambini-wind-quintet",
    ]
    assert len(log.domains) == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "musicnet_metadata.csv").unlink(), "is missing; download it"),
        (
            lambda root: (root / "musicnet_metadata.csv").write_text("id,composer\n"),
            "no column ens",
        ),
        (lambda root: (root / "musicnet_metadata.csv").write_text(""), "no column composer, ens"),
        (lambda root: (root / "musicnet_metadata.csv").write_bytes(b"\xff\xfe"), "cannot read"),
        (lambda root: list(map(shutil.rmtree, root.glob("t*_data"))), "unpack musicnet.tar.gz"),
    ],
)
def test_what_is_no_musicnet_is_refused_clearly(tmp_path, damage, message):
    root = write_musicnet(tmp_path / "musicnet")
    damage(root)
    with pytest.raises(DataError, match=message):
        prepare_musicnet(root, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_musicnets_labels_become_scores(tmp_path):
    root = write_musicnet(tmp_path / "musicnet", "musicnet")
    labels = root / "musicnet" / "train_labels" / "2191.csv"
    labels.write_text("start_time,end_time,instrument,note\n0,44100,43,45\n")
    log = prepare_musicnet(root, data=tmp_path / "data", sample_rate=RATE)
    assert "bach-solo-cello: 1 of 2 recordings have a score" in log.notices
    cello = load_domain(tmp_path / "data" / "bach-solo-cello")
    (track,) = (track for track in cello.tracks if track.notes)
    assert track.source.endswith("2191.wav")
    notes = read_notes(cello.directory / track.notes)
    assert notes.tolist() == [[0, 1, 45, 1, 1]]
