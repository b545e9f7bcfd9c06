"""Entry point. The only place that turns errors into exit statuses: 1 user, 3 bug, 128 + a signal's number.

SIGTERM and SIGHUP interrupt a command as ^C does.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from labctl import __version__
from labctl.cli import app
from labctl.commands.terminal import complain, streams
from labctl.errors import LabError, NoSpaceError
from labctl.host import files, home, lock, paths, state
from labctl.secret import Redactor

BUG = 3
INTERRUPTED = 128 + signal.SIGINT
#: What the system answers that is no bug: a full disk, a name that is too long, a file of another user.
OUTSIDE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
        *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
        0,  # labctl.host.files: a directory, FIFO or device in a file's place
    }
)
#: Wrong usage; typer bundles its own copy of click, so the class is taken from one it exports.
UsageErrors: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _told(error: LabError) -> None:
    hint = error.hint
    if isinstance(error, NoSpaceError):
        from labctl.lab import room  # looks at labs and images, as no other error does

        hint = "; ".join(text for text in (room.said(), hint) if text)
    complain(error.message, hint)


def _of_system(error: OSError) -> LabError:
    """What the system answered: of a disk that nothing can be written to, what would free it."""
    place = Path(os.fsdecode(error.filename or paths.home()))
    if error.errno == errno.EROFS:
        return LabError(f"{place} is on a read-only file system", "LABCTL_HOME on a writable file system")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no space left on the file system of {place}: {error.strerror}")
    if error.errno == errno.EIO:
        return state.failing(place)
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    sudo = isinstance(error, PermissionError) and place.is_relative_to(paths.home())
    return LabError(f"{where}{error.strerror or error}", "the same command with sudo" if sudo else "")


def _bug(error: Exception) -> int:
    hide = Redactor(())  # users attach these to reports; which lab's passwords they contain is not known here
    log = files.kept(hide(f"labctl {__version__}: {sys.argv}\n{traceback.format_exc()}"), "labctl-bug-")
    typer.echo(f"error: this is a bug in labctl: {hide(repr(error))}\n  details: {log}", err=True)
    return BUG


def _interrupted(error: BaseException) -> bool:
    """Whether an error is what became of an interruption: Python makes a RuntimeError of one in ``__set_name__``."""
    cause = error.__cause__ or error.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _interrupted(cause))


def run() -> None:
    """Run labctl and raise SystemExit with its status."""
    with streams():
        sys.exit(_run())


def _run() -> int:
    """Run labctl; its status."""
    status: Any
    try:
        for text in home.mended():
            typer.echo(text, err=True)
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except LabError as error:
        _told(error)
        status = 1
    except BrokenPipeError:  # the reader has enough
        status = 1
    except OSError as error:
        if error.errno not in OUTSIDE:
            return _bug(error)
        _told(_of_system(error))
        status = 1
    except typer.Exit as error:
        status = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if isinstance(error, UsageErrors):
            error.show()
            return int(error.exit_code)
        if not _interrupted(error):
            return _bug(error)
        status = INTERRUPTED
    if status == INTERRUPTED and sys.argv[1:2] in (["up"], ["down"]):  # typer turns ^C into this status itself
        with suppress(OSError):  # the terminal is gone
            typer.echo(
                "interrupted: run the same command again to resume; labctl list shows the current state", err=True
            )
    return status if isinstance(status, int) else 0


def _interruptible() -> list[int]:
    """Let signals interrupt this process; returns the list of those that come.

    A shell starts a background job with SIGINT ignored, but apt and others that labctl starts do not ignore it, so
    labctl takes it back, unless nohup asks to go on.
    """
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        came.append(number)
        lock.ending()
        raise KeyboardInterrupt

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in (signal.SIGTERM,) if nohup else (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupt)
    return came


def main() -> None:
    """Run labctl as its own process: ^C ends it immediately.

    Worker threads may wait minutes for a node, and their work is safe to repeat; the interpreter would join them first.
    It would also end by SIGINT, whatever the status, where the interruption came while an extension module ran Python
    code as it was imported (CPython: run_eval_code_obj, unhandled_keyboard_interrupt).
    """
    came = _interruptible()
    try:
        run()
    except SystemExit as left:
        if left.code != INTERRUPTED:
            raise
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(128 + came[0] if came else INTERRUPTED)


if __name__ == "__main__":
    main()
