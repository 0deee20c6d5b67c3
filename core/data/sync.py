"""Bring one prepared domain up to date with its recordings.

In: the recordings of a domain, and the domain's folder as earlier runs left it. Out: the folder
up to date, and what happened. `domain.json` is written last and only ever names complete
files: a stored file has the hash of its content in its name, so a changed recording
never overwrites what the present `domain.json`, or a training run, refers to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core.data.convert import Rejected, Stored, hash_source, store_track
from core.data.domain import (
    DOMAIN_FILE,
    Domain,
    Part,
    Track,
    is_stored,
    read_domain_file,
    remove_leftovers,
    write_domain_file,
)
from core.data.recordings import Collection, Source
from core.data.report import Happenings, split_warnings
from core.data.split import assign_tracks, carry_over, cut_track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from core.data.workers import Workers

REPORTED_GAIN_DB = -1.0  # decoded mp3 often peaks a little above full scale: not worth a line


class DomainUpdate:
    """One run over one domain; call `run` once.

    Args:
        collection: The recordings as they are now.
        directory: The domain's folder; need not exist.
        sample_rate: The prepared rate in Hz, also that of the domain where it exists.
        shares: Share of each split, from `normalise_shares`.
        happenings: Where to report.
        progress: Called with the domain, how many recordings are done, and how many there
            are to read.

    Attributes:
        n_converted: Recordings that the run stored.
        n_dropped: Tracks that the domain lost.
    """

    def __init__(
        self,
        collection: Collection,
        directory: Path,
        *,
        sample_rate: int,
        shares: Mapping[str, float],
        happenings: Happenings,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.n_converted = 0
        self.n_dropped = 0
        self._collection = collection
        self._directory = directory
        self._sample_rate = sample_rate
        self._shares = shares
        self._happenings = happenings
        self._progress = progress
        self._origin = str(collection.root.resolve())
        exists = (directory / DOMAIN_FILE).exists()
        self._before = read_domain_file(directory) if exists else None
        self._known = {track.source: track for track in self._before.tracks} if self._before else {}
        self._tracks: dict[str, Track] = {}  # by source: the domain as it will be
        self._failed: set[str] = set()  # sources that could not be read
        self._moved: set[str] = set()  # known sources that have another path now
        self._unfit: set[str] = set()  # duplicates, silent and short ones

    def run(self, workers: Workers) -> Domain | None:
        """Do the work.

        Returns:
            The domain; None where nothing could be prepared: a failure says why, and the
            domain stays as it was.

        Raises:
            DataError: The folder cannot be written.
        """
        pending = self._look()
        self._progress(self._collection.name, 0, len(pending))
        to_store = self._settle(self._hash(pending, workers))
        if self._before and self._before.prepared_from != self._origin and self._is_unrelated():
            self._refuse(
                f"{self._directory} was made from {self._before.prepared_from} and none of that "
                f"is in here; give this one another --name, or delete {self._directory}"
            )
            return None
        stored = self._store(to_store, len(pending), workers)
        self._keep_unreadable()
        self._assign(stored)
        if not self._tracks:
            self._refuse("no recording in it can be used")
            return None
        return self._save()

    def _look(self) -> list[Source]:
        """Keep the tracks whose recordings look unchanged; return what has to be read."""
        pending = []
        for path in self._collection.files:
            relative = self._collection.relative(path)
            try:
                source = Source.find(path, relative)
            except OSError as error:
                self._fail(path, relative, error.strerror or str(error))
                continue
            track = self._known.get(relative)
            if track and source.is_noted_in(track) and is_stored(track, self._directory):
                self._tracks[relative] = track
            else:
                pending.append(source)
        return pending

    def _hash(self, pending: list[Source], workers: Workers) -> list[tuple[Source, str]]:
        results = dict(workers.run(hash_source, [(source,) for source in pending]))
        hashed = []
        for index, source in enumerate(pending):
            result = results[index]
            if isinstance(result, Rejected):
                self._fail(source.path, source.relative, result.reason)
            else:
                hashed.append((source, result))
        return hashed

    def _settle(self, hashed: list[tuple[Source, str]]) -> list[tuple[Source, str]]:
        """Settle duplicates, new dates and new names; return what must be converted."""
        by_content = {track.source_sha256: track for track in self._known.values()}
        owners = {track.source_sha256: source for source, track in self._tracks.items()}
        to_store = []
        # Recordings at the path of a known track with their content come first: it is theirs.
        for source, sha256 in sorted(hashed, key=lambda pair: not self._is_known(*pair)):
            track = by_content.get(sha256)
            if sha256 in owners:
                self._tell(
                    source.relative, f"is left out: it has the same content as {owners[sha256]}"
                )
                self._unfit.add(source.relative)
            elif track and is_stored(track, self._directory):
                self._tracks[source.relative] = source.note_in(track)
                if track.source != source.relative:
                    self._tell(source.relative, f"was {track.source} before; its split stays")
                    self._moved.add(track.source)
            else:
                to_store.append((source, sha256))
            owners.setdefault(sha256, source.relative)
        return to_store

    def _is_known(self, source: Source, sha256: str) -> bool:
        track = self._known.get(source.relative)
        return track is not None and track.source_sha256 == sha256

    def _is_unrelated(self) -> bool:
        present = {self._collection.relative(path) for path in self._collection.files}
        return not self._moved and not present & self._known.keys()

    def _store(
        self, to_store: list[tuple[Source, str]], n_pending: int, workers: Workers
    ) -> list[Track]:
        """Convert recordings; return them as tracks that wait for their parts."""
        n_settled = n_pending - len(to_store)
        self._progress(self._collection.name, n_settled, n_pending)
        tasks = [(*pair, self._directory, self._sample_rate) for pair in to_store]
        results = {}
        for index, result in workers.run(store_track, tasks):
            results[index] = result
            self._progress(self._collection.name, n_settled + len(results), n_pending)
        stored = []
        for index, (source, sha256) in enumerate(to_store):
            result = results[index]
            if isinstance(result, Stored):
                stored.append(self._new_track(source, sha256, result))
            elif result.is_failure:
                self._fail(source.path, source.relative, result.reason)
            else:
                self._tell(source.relative, f"is skipped: {result.reason}")
                self._unfit.add(source.relative)
        self.n_converted = len(stored)
        return stored

    def _new_track(self, source: Source, sha256: str, stored: Stored) -> Track:
        if stored.gain_db < REPORTED_GAIN_DB:
            self._tell(
                source.relative, f"is louder than full scale; scaled by {stored.gain_db:.1f} dB"
            )
        return Track(
            file=stored.file,
            source=source.relative,
            source_sha256=sha256,
            source_size=source.size,
            source_mtime_ns=source.mtime_ns,
            n_samples=stored.n_samples,
            level_db=stored.level_db,
            parts=(Part("train", 0, stored.n_samples),),  # until _assign
        )

    def _keep_unreadable(self) -> None:
        """Keep what an earlier run made of recordings that cannot be read now."""
        for relative in sorted(self._failed - self._moved):
            track = self._known.get(relative)
            if track and is_stored(track, self._directory):
                self._tracks[relative] = track
                self._tell(relative, "cannot be read now; its earlier conversion is kept")

    def _assign(self, stored: list[Track]) -> None:
        """Give the stored tracks their parts; known ones keep the splits they had."""
        by_content = {track.source_sha256: track for track in self._known.values()}
        new = []
        for track in stored:
            heritage = by_content.get(track.source_sha256) or self._known.get(track.source)
            if heritage is None:
                new.append(track)
                continue
            parts = carry_over(heritage.parts, track.n_samples, self._sample_rate)
            self._tracks[track.source] = replace(track, parts=parts)
        if len(new) == 1 and not self._tracks:
            parts = cut_track(new[0].n_samples, self._sample_rate, self._shares)
            self._tracks[new[0].source] = replace(new[0], parts=parts)
            return
        existing = [part for track in self._tracks.values() for part in track.parts]
        lengths = {track.source: track.n_samples for track in new}
        assigned = assign_tracks(lengths, existing, self._shares)
        for track in new:
            self._tracks[track.source] = replace(track, parts=(assigned[track.source],))

    def _save(self) -> Domain:
        tracks = tuple(self._tracks[source] for source in sorted(self._tracks))
        domain = Domain(
            self._collection.name, self._sample_rate, tracks, self._directory, self._origin
        )
        for source in sorted(self._known.keys() - self._tracks.keys() - self._moved):
            self.n_dropped += 1
            if source not in self._unfit:
                self._tell(source, "is gone; dropped from the domain")
        if domain != self._before:
            write_domain_file(domain)
        remove_leftovers(domain)
        self._happenings.warnings.extend(split_warnings(domain, self._shares))
        return domain

    def _tell(self, source: str, what: str) -> None:
        self._happenings.notices.append(f"{self._collection.name}: {source} {what}")

    def _fail(self, path: Path, relative: str, reason: str) -> None:
        self._happenings.failures.append((str(path), reason))
        self._failed.add(relative)

    def _refuse(self, reason: str) -> None:
        self._happenings.failures.append((str(self._collection.root), reason))
