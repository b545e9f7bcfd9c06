"""Console output: progress while something runs, and listings."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labctl.commands.terminal import forget_odd_sizes, visible
from labctl.host import files
from labctl.progress import Event, Kind, subscribed


class Plain(Console):
    """A console that prints text as it is: names and paths may look like markup, emoji or commands of a terminal."""

    def __init__(self, *, width: int | None = None, stderr: bool = False) -> None:
        forget_odd_sizes()
        super().__init__(
            highlight=False, markup=False, emoji=False, soft_wrap=width is None, width=width, stderr=stderr
        )

    def print(self, *objects: Any, **how: Any) -> None:
        """Print; ``style`` is for the whole line."""
        super().print(*(visible(item) if isinstance(item, str) else item for item in objects), **how)


out = Plain()
err = Plain(stderr=True)


class Format(StrEnum):
    """Output format of a listing."""

    TABLE = "table"
    JSON = "json"


#: Seconds between reminders of a running step, where output is not a terminal.
AGAIN = 30.0
#: Width of a progress bar in characters.
BAR = 24


def _duration(seconds: float) -> str:
    """An approximate, human-readable duration."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class _Lines:
    """Progress as lines: when, where, what, how long.

    A terminal shows the running step with a bar and an estimate; elsewhere it gets a line of its own at least
    every half minute.
    """

    def __init__(self) -> None:
        self._began = self._printed = time.monotonic()
        self._status = err.status("") if err.is_terminal else None
        #: the running steps, and the latest progress of each place
        self._open: list[tuple[str, str, float]] = []
        self._progress: dict[str, Event] = {}
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind is Kind.PROGRESS:
                self._progress[event.where] = event
                self._show()
                return
            if event.kind is Kind.BEGIN:
                self._open.append((event.where, event.text, time.monotonic()))
                if self._status:
                    self._show()
                    self._status.start()
                else:
                    self._print(event.where, f"{_plain(event.text)} …")
                return
            if event.kind in (Kind.END, Kind.FAIL):
                self._close(event)
            took = f" [dim]{event.seconds:.1f} s[/dim]" if event.seconds is not None else ""
            marker = {
                Kind.FAIL: "[red]failed[/red] ",
                Kind.WARN: "[yellow]warning[/yellow] ",
                Kind.END: "[green]done[/green] ",
            }
            indent = "  " if event.kind is Kind.NOTE else ""
            self._print(event.where, f"{indent}{marker.get(event.kind, '')}{_plain(event.text)}{took}")

    def _close(self, event: Event) -> None:
        """Drop a finished step and its progress."""
        ended = [s for s in self._open if s[:2] == (event.where, event.text)]
        if ended:
            self._open.remove(ended[-1])
        self._progress.pop(event.where, None)
        if self._status:
            if self._open:
                self._show()
            else:
                self._status.stop()

    def _print(self, where: str, text: str) -> None:
        self._printed = time.monotonic()
        err.print(f"{self._printed - self._began:7.1f}s {_plain(where):<12} {text}", markup=True)

    def _show(self) -> None:
        """Update the terminal's status line."""
        if self._status and self._open:
            where, text, _ = self._open[-1]
            told = self._progress.get(where)
            self._status.update(f"{_plain(where)}: {_plain(text)}{self._told(told, bar=True) if told else ''}")

    @staticmethod
    def _told(event: Event, *, bar: bool) -> str:
        parts = []
        if event.share is not None:
            done = round(event.share * BAR)
            drawn = f"{'━' * done}[dim]{'━' * (BAR - done)}[/dim] " if bar else ""
            parts.append(f"{drawn}{event.share:.0%}")
        parts.append(_plain(event.text))
        if event.left is not None:
            parts.append(f"about {_duration(event.left)} left")
        return " " + ", ".join(p for p in parts if p)

    def remind(self) -> None:
        """Print the running step when nothing was printed for a while."""
        with self._lock:
            now = time.monotonic()
            if self._status or not self._open or now - self._printed < AGAIN:
                return
            where, text, began = self._open[-1]
            told = self._progress.get(where)
            self._print(
                where, f"  {_plain(text)}: {_duration(now - began)} so far{self._told(told, bar=False) if told else ''}"
            )


def _plain(text: str) -> str:
    return escape(visible(text))


@contextmanager
def _reminding(lines: _Lines) -> Iterator[None]:
    over = threading.Event()

    def remind() -> None:
        while not over.wait(1):
            lines.remind()

    thread = threading.Thread(target=remind, daemon=True, name="labctl-progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def progress(log: Path | None = None) -> Iterator[None]:
    """Show progress on standard error, and append it as JSON lines to ``log``."""
    lines = _Lines()
    with subscribed(lines), _reminding(lines):
        if log is None:
            yield
            return

        def keep(event: Event) -> None:
            if event.kind is not Kind.PROGRESS and log.parent.is_dir():
                with files.continued(log, 0o644) as sink:
                    sink.write(
                        json.dumps({k: v for k, v in vars(event).items() if v is not None or k == "seconds"}) + "\n"
                    )

        with subscribed(keep):
            yield


def listing(format_: Format, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table, or as a JSON array with every field."""
    if format_ is Format.JSON:
        json.dump(list(rows), sys.stdout, indent=1, default=str)
        sys.stdout.write("\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(visible(str(row.get(c, ""))) for c in columns))
    # a pipe has no width: one line per row
    printer = out if out.is_terminal else Plain(width=10_000)
    printer.print(table)
