"""Entry point. The only place that turns errors into exit statuses: 1 user, 3 bug, 130 interrupted."""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import typer

from labctl import __version__
from labctl.cli import app
from labctl.errors import LabError
from labctl.host import files, home, paths
from labctl.secret import Redactor

BUG = 3
INTERRUPTED = 130
#: Wrong usage; typer bundles its own copy of click, so the class is taken from one it exports.
UsageErrors: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _say(error: LabError) -> None:
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"  try: {error.hint}", err=True)


def _lost_output(failed: OSError | None = None) -> OSError | None:
    """Why standard output cannot be written, if it cannot.

    :param failed: what ended labctl; without a buffer the output's failure is not repeated by a flush, but by a write.
    """
    if sys.stdout is None:  # closed by who started labctl
        return None
    try:
        sys.stdout.flush()
        if failed and failed.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EDQUOT) and not failed.filename:
            os.write(sys.stdout.fileno(), b"\n")
    except OSError as error:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())  # the interpreter flushes once more when it ends
        return error
    return None


def _say_lost(lost: OSError) -> int:
    if lost.errno != errno.EPIPE:  # a reader that has seen enough is no error
        _say(LabError(f"standard output: {lost.strerror}"))
    return 1


def _full(error: OSError) -> LabError:
    """A disk that nothing can be written to, and what would free it."""
    place = Path(os.fsdecode(error.filename or paths.home()))
    hint = "labctl gc; labctl image prune --unused; labctl snapshot delete LAB SNAPSHOT"
    if error.errno == errno.EROFS:
        return LabError(f"{place} is on a read-only file system", "LABCTL_HOME on a writable file system")
    return LabError(f"no space left on the file system of {place}: {error.strerror}", hint)


def run() -> None:
    """Run labctl and raise SystemExit with its status."""
    try:
        for text in home.mended():
            typer.echo(text, err=True)
        status = app(standalone_mode=False)
        if lost := _lost_output():
            status = _say_lost(lost)
    except LabError as error:
        _say(error)
        status = 1
    except PermissionError as error:
        if not Path(os.fsdecode(error.filename or "")).is_relative_to(paths.home()):
            raise
        _say(LabError(f"{error.filename}: {error.strerror}", "the same command with sudo"))
        status = 1
    except typer.Exit as error:
        status = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if isinstance(error, UsageErrors):
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, OSError) and (lost := _lost_output(error)):
            sys.exit(_say_lost(lost))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            _say(_full(error))
            sys.exit(1)
        hide = Redactor(())  # users attach these to reports; which lab's passwords they contain is not known here
        log = files.kept(hide(f"labctl {__version__}: {sys.argv}\n{traceback.format_exc()}"), "labctl-bug-")
        typer.echo(f"error: this is a bug in labctl: {hide(repr(error))}\n  details: {log}", err=True)
        status = BUG
    if status == INTERRUPTED and sys.argv[1:2] in (["up"], ["down"]):  # typer turns ^C into this status itself
        typer.echo("interrupted: run the same command again to resume; labctl list shows the current state", err=True)
    sys.exit(status if isinstance(status, int) else 0)


def main() -> None:
    """Run labctl as its own process: ^C ends it immediately.

    Worker threads may wait minutes for a node, and their work is safe to repeat; the interpreter would
    join them first.
    """
    try:
        run()
    except SystemExit as left:
        if left.code == INTERRUPTED and threading.active_count() > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
