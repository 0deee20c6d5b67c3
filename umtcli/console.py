"""The streams around the program, lines on stderr, and progress.

Commands never touch `sys.stdin`, `sys.stdout` or `sys.stderr`: they are given an
`Environment`, so a test decides what is a terminal and what is a pipe. The result goes to
`stdout` and nothing else does; notices, warnings, errors and progress go to `stderr`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

JSON_VERSION = 1
PLAIN_PROGRESS_SECONDS = 10.0  # between lines where no bar can be drawn
LONG_SECONDS = 10.0  # work estimated to take longer is announced
MEASURE_SECONDS = 1.0  # of work, before an estimate is worth anything
RECENT_SECONDS = 60.0  # an estimate goes by the last one or two of these

StreamKind = Literal["terminal", "data", "other"]


@dataclass
class Environment:
    """The program's streams, and which lines it shows.

    Attributes:
        stdin: Bytes that a command may read.
        stdout: Bytes of the result.
        stderr: Text for the user.
        stdin_kind: `data` is a pipe, socket or regular file; `other` is /dev/null and such.
        stdout_kind: As `stdin_kind`.
        stderr_is_terminal: Whether bars and colours can be shown.
        is_quiet: Whether notices and progress are left out.
        is_verbose: Whether errors come with their traceback.
        clock: Seconds that never go back.
    """

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: TextIO
    stdin_kind: StreamKind
    stdout_kind: StreamKind
    stderr_is_terminal: bool
    is_quiet: bool = False
    is_verbose: bool = False
    clock: Callable[[], float] = time.monotonic
    bar: Any = None  # the tqdm bar on stderr, while there is one

    @classmethod
    def from_process(cls) -> Environment:
        """Describe this process's own streams; a closed one reads and writes nothing."""
        stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
        stdout = sys.stdout.buffer if sys.stdout else io.BytesIO()
        stderr = sys.stderr or io.StringIO()
        return cls(
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            stdin_kind=_stream_kind(stdin),
            stdout_kind=_stream_kind(stdout),
            stderr_is_terminal=stderr.isatty(),
        )

    def notice(self, text: str) -> None:
        """Write one line of information to stderr; not when quiet."""
        if not self.is_quiet:
            self._write_line("", text)

    def error(self, text: str) -> None:
        """Write to stderr, in one line, what went wrong."""
        self._write_line("error: ", text)

    @contextmanager
    def log_shown(self) -> Iterator[None]:
        """Show as notices what `core` logs meanwhile, each line once.

        A file that is opened again to be read would else be remarked on twice.
        """
        handler = _NoticeHandler(self)
        logger = logging.getLogger("core")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def write_text(self, text: str) -> None:
        """Write a textual result to stdout."""
        self.stdout.write(text.encode("utf-8", "backslashreplace"))
        self.stdout.flush()

    def write_json(self, command: str, content: Mapping[str, Any]) -> None:
        """Write a result to stdout as JSON, with the command and the format's version."""
        envelope = {"command": command, "version": JSON_VERSION, **content}
        self.write_text(json.dumps(envelope, indent=2) + "\n")

    def write_table(self, table: RenderableType) -> None:
        """Write a rich table to stdout: drawn for a terminal, whole lines for a pipe.

        Its texts are shown as they are: brackets are no markup, and control characters do not
        reach the terminal.
        """
        from rich.console import Console
        from rich.segment import Segment, Segments

        is_terminal = self.stdout_kind == "terminal"
        text = io.StringIO()
        console = Console(
            file=text,
            force_terminal=is_terminal,
            width=None if is_terminal else 10_000,
            no_color="NO_COLOR" in os.environ,
            highlight=False,
            markup=False,
            emoji=False,
        )
        drawn = [
            Segment(printable(own.text, keep="\n"), own.style, own.control)
            for own in console.render(table)
        ]
        console.print(Segments(drawn), soft_wrap=not is_terminal)
        self.write_text("\n".join(line.rstrip() for line in text.getvalue().split("\n")))

    def open_bar(self, label: str, total: float | None, *, unit: str, layout: str) -> None:
        """Draw a bar on stderr where that is a terminal; not when quiet.

        Args:
            label: What is being done.
            total: Amount of work, in `unit`; None when it is not known.
            unit: Of the amounts.
            layout: tqdm's `bar_format`.
        """
        if not self.stderr_is_terminal or self.is_quiet:
            return
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread: the bar is refreshed by who counts
        self.bar = tqdm(
            total=total,
            desc=label,
            unit=unit,
            file=self.stderr,
            leave=False,
            dynamic_ncols=True,
            bar_format=layout,
        )

    def close_bar(self) -> None:
        """Remove the bar, if there is one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _write_line(self, prefix: str, text: str) -> None:
        line = printable(text.replace("\n", " "))
        if self.bar is not None:
            self.bar.clear()
        if self.stderr_is_terminal and "NO_COLOR" not in os.environ:
            from rich.console import Console
            from rich.text import Text

            styled = Text.assemble(("umt: ", "dim"), (prefix, "bold red"), line)
            console = Console(file=self.stderr, force_terminal=True, highlight=False)
            console.print(styled, soft_wrap=True)
        else:
            self.stderr.write(f"umt: {prefix}{line}\n")
        self.stderr.flush()
        if self.bar is not None:
            self.bar.refresh()


class _NoticeHandler(logging.Handler):
    """Turns log records into notices."""

    def __init__(self, env: Environment) -> None:
        super().__init__(logging.WARNING)
        self._env = env
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, unless the same text was shown before."""
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            self._env.notice(text)


class Progress:
    """Progress of one long piece of work, with an estimate of its time before it drags on.

    A bar where stderr is a terminal, else a plain line every ten seconds.

    Args:
        env: Where to show it.
        label: What is being done.
        total: Amount of work, in `unit`; None when it is not known.
        unit: Of the amounts.
    """

    def __init__(
        self, env: Environment, label: str, total: float | None, *, unit: str = "s"
    ) -> None:
        self.env = env
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0.0
        self._last_line = env.clock()
        # When the first work was done, and how much. Getting there took imports and warming
        # up, which say nothing about the rest.
        self._first: tuple[float, float] | None = None
        self._recent = (0.0, 0.0)
        self._is_announced = False

    def __enter__(self) -> Self:
        layout = (
            "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            if self.total
            else "{desc}: {n:.1f} {unit}, {elapsed}"
        )
        self.env.open_bar(self.label, self.total, unit=self.unit, layout=layout)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.env.close_bar()

    def advance(self, amount: float) -> None:
        """Count `amount` more as done."""
        # Whole frames are a little longer than their input: never show more than all of it.
        amount = amount if self.total is None else min(amount, self.total - self.done)
        self.done += amount
        now = self.env.clock()
        if self.env.bar is not None:
            self.env.bar.update(amount)
        elif now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            self.env.notice(f"{self.label}: {self._position(now)}")
        if self._first is None:
            self._first = self._recent = (now, self.done)
        elif now - self._recent[0] >= RECENT_SECONDS:
            # What an interrupted run had done before, or another pace of the machine, is past.
            self._first, self._recent = self._recent, (now, self.done)
        if not self._is_announced and now - self._first[0] >= MEASURE_SECONDS:
            self._is_announced = True
            if (left := self._seconds_left(now)) is not None and left > LONG_SECONDS:
                self.env.notice(f"{self.label}: about {format_seconds(left)} left")

    def _seconds_left(self, now: float) -> float | None:
        if not self.total or self._first is None or self.done == self._first[1]:
            return None
        began, before = self._first
        return (now - began) * (self.total - self.done) / (self.done - before)

    def _position(self, now: float) -> str:
        if not self.total:
            return f"{self.done:.1f} {self.unit} done"
        left = self._seconds_left(now)
        time_left = "" if left is None else f", about {format_seconds(left)} left"
        return f"{100 * self.done / self.total:.0f} %{time_left}"


def printable(text: str, *, keep: str = "") -> str:
    """Return text that a terminal only shows: control characters are written out.

    Args:
        text: Anything, also from files and names.
        keep: Characters that stay all the same.
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def format_seconds(seconds: float) -> str:
    """Return a length of time, rounded for reading.

    Example:
        >>> format_seconds(42), format_seconds(200), format_seconds(9000)
        ('42 s', '3 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _stream_kind(stream: BinaryIO) -> StreamKind:
    if stream.isatty():
        return "terminal"
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return "other"
    # Programs such as Node and sshd hand over a socket where a shell hands over a pipe.
    is_data = stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
    return "data" if is_data else "other"
