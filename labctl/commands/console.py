"""What the user sees while something runs, and how listings are printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from labctl.progress import Event, Kind, subscribed

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


class _Lines:
    """Progress as lines: when, where, what, how long. On a terminal also the step that runs now."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._status = err.status("") if err.is_terminal else None
        self._depth = 0

    def __call__(self, event: Event) -> None:
        at = f"{time.monotonic() - self._began:7.1f}s"
        took = f" [dim]{event.seconds:.1f} s[/dim]" if event.seconds is not None else ""
        if event.kind is Kind.BEGIN:
            self._depth += 1
            if self._status:
                self._status.update(f"{event.where}: {event.text}")
                self._status.start()
            else:
                err.print(f"{at} {event.where:<12} {event.text} …")
            return
        if event.kind in (Kind.END, Kind.FAIL):
            self._depth -= 1
            if self._status and self._depth == 0:
                self._status.stop()
        marker = {
            Kind.FAIL: "[red]failed[/red] ",
            Kind.WARN: "[yellow]warning[/yellow] ",
            Kind.END: "[green]done[/green] ",
        }
        indent = "  " if event.kind is Kind.NOTE else ""
        err.print(f"{at} {event.where:<12} {indent}{marker.get(event.kind, '')}{_plain(event.text)}{took}")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def progress(log: Path | None = None) -> Iterator[None]:
    """Show progress on standard error, and keep it as JSON lines in ``log``."""
    with subscribed(_Lines()):
        if log is None:
            yield
            return

        def keep(event: Event) -> None:
            if log.parent.is_dir():
                with log.open("a") as sink:
                    sink.write(json.dumps(vars(event)) + "\n")

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
        table.add_row(*(str(row.get(c, "")) for c in columns))
    # a pipe has no width: a line there is a row
    printer = out if out.is_terminal else Console(highlight=False, width=10_000)
    printer.print(table)
