"""Bring one prepared domain up to date with its recordings.

In: the recordings of a domain, and the domain's directory as earlier runs left it. Out: the
directory up to date, and a log of what was done. `domain.json` is written last and only ever
names complete files: a stored file has the hash of its content in its name, so a changed
recording never overwrites what the present `domain.json`, or a training run, refers to.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from core.data.convert import Rejected, SourceFile, Stored, hash_recording, store_recording
from core.data.domain import (
    DOMAIN_FILE,
    Domain,
    Part,
    Track,
    read_domain_file,
    write_domain_file,
)
from core.data.samples import remove_unnamed_samples, track_samples
from core.data.score import RejectedScore, find_score, store_score
from core.data.split import assign_tracks, carry_over, cut_track, split_warnings
from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

ResultT = TypeVar("ResultT")

REPORTED_GAIN_DB = -1.0  # decoded mp3 often peaks a little above full scale: not worth a line


@dataclass(frozen=True)
class Collection:
    """The recordings that make a domain.

    Attributes:
        name: The domain.
        root: The directory below which they lie.
        files: Their paths.
        scores: The scores of some of them, where they do not lie beside them.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    scores: Mapping[Path, Path] = field(default_factory=dict)

    def relative(self, path: Path) -> str:
        """Return a file's path below the root, with "/" separators."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class PreparedDomain:
    """One domain after a run.

    Attributes:
        domain: As it is on the disk; `minutes` and `n_tracks` give the size of its splits.
        n_converted: Recordings that this run converted.
        n_dropped: Tracks that this run dropped.
    """

    domain: Domain
    n_converted: int
    n_dropped: int


@dataclass
class PrepLog:
    """What a run of `umt prep` did, filled as the work goes on.

    Attributes:
        domains: The domains that are ready, in the order they were given.
        notices: Lines about things that need no action.
        warnings: Lines about things that harm the training.
        failures: Pairs of a recording (or a directory) and why it was not prepared. If there
            are any, the command exits with 1.
    """

    domains: list[PreparedDomain] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


class DomainSync:
    """One run over one domain; call `run` once.

    Args:
        collection: The recordings as they are now.
        directory: The domain's directory, which exists.
        sample_rate: The prepared rate in Hz, also that of the domain where it exists.
        shares: Share of each split, from `normalise_shares`.
        jobs: How many recordings are read at once, each by a thread.
        log: Gets what was done.
        progress: Called in this thread with what is being done, how much of it is done, and
            how much there is: bytes of recordings, or scores.
    """

    def __init__(
        self,
        collection: Collection,
        directory: Path,
        *,
        sample_rate: int,
        shares: Mapping[str, float],
        jobs: int,
        log: PrepLog,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._collection = collection
        self._directory = directory
        self._sample_rate = sample_rate
        self._shares = shares
        self._jobs = jobs
        self._log = log
        self._progress = progress
        self._origin = str(collection.root.resolve())
        exists = (directory / DOMAIN_FILE).exists()
        self._before = read_domain_file(directory) if exists else None
        self._known = {track.source: track for track in self._before.tracks} if self._before else {}
        self._tracks: dict[str, Track] = {}  # by source: the domain as it will be
        self._failed: set[str] = set()  # sources that could not be read
        self._moved: set[str] = set()  # known sources that have another path now
        self._unfit: set[str] = set()  # duplicates, silent and short ones

    def run(self) -> None:
        """Do the work, and add the domain to the log.

        Where nothing can be prepared, a failure in the log has the reason, and the domain stays
        as it was.

        Raises:
            DataError: The directory cannot be written.
        """
        to_store = self._settle(self._hash(self._find_changed()))
        if self._before and self._before.prepared_from != self._origin and self._is_unrelated():
            self._refuse(
                f"{self._directory} was made from {self._before.prepared_from} and none of that "
                f"is in here; give this one another --name, or delete {self._directory}"
            )
            return
        stored = self._store(to_store)
        self._keep_unreadable()
        self._assign(stored)
        self._add_scores()
        if self._tracks:
            self._save(n_converted=len(stored))
        else:
            self._refuse("no recording in it can be used")

    def _find_changed(self) -> list[SourceFile]:
        """Keep the tracks whose recordings look unchanged; return what has to be read."""
        changed = []
        for path in self._collection.files:
            relative = self._collection.relative(path)
            try:
                recording = SourceFile.find(path, relative)
            except OSError as error:
                self._fail(path, relative, error.strerror or str(error))
                continue
            track = self._known.get(relative)
            if track and recording.is_source_of(track) and self._is_stored(track):
                self._tracks[relative] = track
            else:
                changed.append(recording)
        return changed

    def _is_stored(self, track: Track) -> bool:
        try:
            track_samples(self._directory, track)
        except DataError:
            return False
        return True

    def _hash(self, recordings: list[SourceFile]) -> list[tuple[SourceFile, str]]:
        hashed = []
        tasks = [(recording,) for recording in recordings]
        sizes = [recording.size for recording in recordings]
        results = self._each("reading", hash_recording, tasks, sizes)
        for recording, result in zip(recordings, results, strict=True):
            if isinstance(result, Rejected):
                self._fail(recording.path, recording.relative, result.reason)
            else:
                hashed.append((recording, result))
        return hashed

    def _settle(self, hashed: list[tuple[SourceFile, str]]) -> list[tuple[SourceFile, str]]:
        """Settle duplicates, new dates and new names; return what must be converted."""
        by_content = {track.source_sha256: track for track in self._known.values()}
        owners = {track.source_sha256: source for source, track in self._tracks.items()}
        to_store = []
        # Recordings at the path of a known track with their content come first: it is theirs.
        for recording, sha256 in sorted(hashed, key=lambda pair: not self._is_known(*pair)):
            track = by_content.get(sha256)
            source = recording.relative
            if sha256 in owners:
                self._notice(source, f"is left out: it has the same content as {owners[sha256]}")
                self._unfit.add(source)
            elif track and self._is_stored(track):
                self._tracks[source] = recording.as_source_of(track)
                if track.source != source:
                    self._notice(source, f"was {track.source} before; its split stays")
                    self._moved.add(track.source)
            else:
                if track:  # damaged, and not to be taken for what an interrupted run left
                    (self._directory / track.file).unlink(missing_ok=True)
                to_store.append((recording, sha256))
            owners.setdefault(sha256, source)
        return to_store

    def _is_known(self, recording: SourceFile, sha256: str) -> bool:
        track = self._known.get(recording.relative)
        return track is not None and track.source_sha256 == sha256

    def _is_unrelated(self) -> bool:
        present = {self._collection.relative(path) for path in self._collection.files}
        return not self._moved and not present & self._known.keys()

    def _store(self, to_store: list[tuple[SourceFile, str]]) -> list[Track]:
        """Convert recordings; return them as tracks that wait for their parts."""
        tasks = [(*pair, self._directory, self._sample_rate) for pair in to_store]
        sizes = [recording.size for recording, _ in to_store]
        results = self._each("converting", store_recording, tasks, sizes)
        stored = []
        for (recording, sha256), result in zip(to_store, results, strict=True):
            if isinstance(result, Stored):
                stored.append(self._new_track(recording, sha256, result))
            elif result.is_failure:
                self._fail(recording.path, recording.relative, result.reason)
            else:
                self._notice(recording.relative, f"is skipped: {result.reason}")
                self._unfit.add(recording.relative)
        return stored

    def _each(
        self,
        label: str,
        function: Callable[..., ResultT],
        tasks: Sequence[tuple[SourceFile | str | Path | float, ...]],
        sizes: Sequence[int],
    ) -> list[ResultT]:
        """Call a function with each task's arguments and an event that ends it.

        Threads and not processes: nearly all of the work is done in libraries that let other
        threads run meanwhile, and starting a process takes as long as converting five minutes.

        Returns:
            The results, in the order of the tasks.
        """
        if not tasks:
            return []
        stop = Event()
        label = f"{label} {self._collection.name}"
        results: dict[int, ResultT] = {}
        n_done, n_all = 0, sum(sizes)
        self._progress(label, 0, n_all)
        executor = ThreadPoolExecutor(self._jobs)
        try:
            futures = {executor.submit(function, *task, stop): n for n, task in enumerate(tasks)}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                n_done += sizes[futures[future]]
                self._progress(label, n_done, n_all)
        finally:
            # Where the block ends early, by Ctrl-C or a full disk, what runs ends soon, too.
            stop.set()
            executor.shutdown(cancel_futures=True)
        return [results[index] for index in range(len(tasks))]

    def _new_track(self, recording: SourceFile, sha256: str, stored: Stored) -> Track:
        if stored.gain_db < REPORTED_GAIN_DB:
            self._notice(
                recording.relative, f"is louder than full scale; scaled by {stored.gain_db:.1f} dB"
            )
        return Track(
            file=stored.file,
            source=recording.relative,
            source_sha256=sha256,
            source_size=recording.size,
            source_mtime_ns=recording.mtime_ns,
            n_samples=stored.n_samples,
            level_db=stored.level_db,
            parts=(Part("train", 0, stored.n_samples),),  # until _assign
        )

    def _keep_unreadable(self) -> None:
        """Keep what an earlier run made of recordings that cannot be read now."""
        for relative in sorted(self._failed - self._moved):
            track = self._known.get(relative)
            if track and self._is_stored(track):
                self._tracks[relative] = track
                self._notice(relative, "cannot be read now; its earlier conversion is kept")

    def _assign(self, stored: list[Track]) -> None:
        """Give the stored tracks their parts; known ones keep the splits they had."""
        by_content = {track.source_sha256: track for track in self._known.values()}
        new = []
        for track in stored:
            earlier = by_content.get(track.source_sha256) or self._known.get(track.source)
            if earlier is None:
                new.append(track)
                continue
            parts = carry_over(earlier.parts, track.n_samples, self._sample_rate)
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

    def _add_scores(self) -> None:
        """Give each track the notes of the MIDI file that lies beside its recording now."""
        paths = {source: self._collection.root / source for source in sorted(self._tracks)}
        scores = {
            source: self._collection.scores.get(path) or find_score(path)
            for source, path in paths.items()
        }
        found = [(source, score) for source, score in scores.items() if score is not None]
        tasks = []
        for source, score in found:
            track = self._tracks[source]
            seconds = track.n_samples / self._sample_rate
            tasks.append((score, track.file, seconds, self._directory))
        results = self._each("reading scores of", store_score, tasks, [1] * len(tasks))
        stored = dict(zip((source for source, _ in found), results, strict=True))
        for source, track in self._tracks.items():
            notes = stored.get(source, "")
            if isinstance(notes, RejectedScore):
                self._log.warnings.append(
                    f"{self._collection.name}: the score of {source} {notes.reason}; the recording "
                    "is used without it"
                )
                notes = ""
            self._tracks[source] = replace(track, notes=notes)
        known = sum(bool(track.notes) for track in self._known.values())
        n_scores = sum(bool(track.notes) for track in self._tracks.values())
        if n_scores != known:
            self._log.notices.append(
                f"{self._collection.name}: {n_scores} of {len(self._tracks)} recordings have a "
                "score"
            )

    def _save(self, *, n_converted: int) -> None:
        tracks = tuple(self._tracks[source] for source in sorted(self._tracks))
        domain = Domain(
            self._collection.name, self._sample_rate, tracks, self._directory, self._origin
        )
        dropped = self._known.keys() - self._tracks.keys() - self._moved
        for source in sorted(dropped - self._unfit):
            self._notice(source, "is gone; dropped from the domain")
        if domain != self._before:
            write_domain_file(domain)
        if not remove_unnamed_samples(domain):
            self._log.notices.append(
                f"{domain.name}: samples that are no longer needed stay, because another command "
                "reads them; the next umt prep removes them"
            )
        self._log.warnings.extend(split_warnings(domain, self._shares))
        self._log.domains.append(PreparedDomain(domain, n_converted, len(dropped)))

    def _notice(self, source: str, what: str) -> None:
        self._log.notices.append(f"{self._collection.name}: {source} {what}")

    def _fail(self, path: Path, relative: str, reason: str) -> None:
        self._log.failures.append((str(path), reason))
        self._failed.add(relative)

    def _refuse(self, reason: str) -> None:
        self._log.failures.append((str(self._collection.root), reason))
