"""Find the paper's six domains in an unpacked MusicNet (Thickstun et al. 2017).

In: `musicnet_metadata.csv`, the folders `train_data` and `test_data` with `ID.wav`, and the labels
`ID.csv` beside those folders. Out: which recordings make which domain. Does not read audio.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from core.data.sync import Collection
from core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from core.data.sync import PrepLog

METADATA_FILE = "musicnet_metadata.csv"
AUDIO_FOLDERS = ("train_data", "test_data")
LABEL_FOLDERS = ("train_labels", "test_labels")
# The domains of the published weights (paper.md), by composer and ensemble.
MUSICNET_DOMAINS = {
    ("bach", "solo cello"): "bach-solo-cello",
    ("beethoven", "solo piano"): "beethoven-solo-piano",
    ("cambini", "wind quintet"): "cambini-wind-quintet",
    ("bach", "solo piano"): "bach-solo-piano",
    ("beethoven", "accompanied violin"): "beethoven-accompanied-violin",
    ("beethoven", "string quartet"): "beethoven-string-quartet",
}


def musicnet_collections(root: Path, log: PrepLog) -> list[Collection]:
    """Collect the recordings of each of the six domains.

    Args:
        root: The unpacked MusicNet.
        log: Gets the recordings and domains that are missing, as failures.

    Returns:
        The domains that have recordings.

    Raises:
        DataError: The table or all of the audio is missing, or the table is another one.
    """
    recordings = _list_recordings(root / METADATA_FILE)
    base = root / "musicnet" if (root / "musicnet").is_dir() else root  # as the archive unpacks
    folders = [base / name for name in AUDIO_FOLDERS if (base / name).is_dir()]
    if not any(file.suffix == ".wav" for folder in folders for file in folder.iterdir()):
        raise DataError(
            f"{base} has no recordings in {' or '.join(AUDIO_FOLDERS)}; unpack musicnet.tar.gz "
            f"in {root}"
        )
    collections = []
    for domain in MUSICNET_DOMAINS.values():
        files = []
        for identifier in recordings[domain]:
            found = [file for folder in folders if (file := folder / f"{identifier}.wav").is_file()]
            if found:
                files.append(found[0])
            else:
                reason = f"{METADATA_FILE} lists it, but it is not in {' or '.join(AUDIO_FOLDERS)}"
                log.failures.append((f"{identifier}.wav", reason))
        if files:
            labels = {
                file: table
                for file in files
                for name in LABEL_FOLDERS
                if (table := base / name / f"{file.stem}.csv").is_file()
            }
            collections.append(Collection(domain, root, tuple(files), labels))
        else:
            log.failures.append((domain, f"{root} has no recording for this domain"))
    return collections


def _list_recordings(table: Path) -> dict[str, list[str]]:
    """Return the identifiers of each domain's recordings."""
    recordings: dict[str, list[str]] = {domain: [] for domain in MUSICNET_DOMAINS.values()}
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = {"id", "composer", "ensemble"} - set(rows.fieldnames or ())
            if missing:
                raise DataError(
                    f"{table} has no column {', '.join(sorted(missing))}; take the table that "
                    "MusicNet comes with"
                )
            for row in rows:
                kind = tuple((row[key] or "").strip().lower() for key in ("composer", "ensemble"))
                domain = MUSICNET_DOMAINS.get((kind[0], kind[1]))
                if domain is not None:
                    identifier = (row["id"] or "").strip()
                    if not re.fullmatch(r"\d{1,9}", identifier, re.ASCII):  # it becomes a path
                        raise DataError(
                            f"{table} line {rows.line_num}: id {identifier[:40]!r} is no number; "
                            "take the table that MusicNet comes with"
                        )
                    recordings[domain].append(identifier)
    except FileNotFoundError:
        raise DataError(
            f"{table} is missing; download it from the page of MusicNet and put it there"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {table}: {error}") from error
    return recordings
