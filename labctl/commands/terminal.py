"""Standard streams on which no command breaks: closed, full, in another encoding; text that only shows."""

from __future__ import annotations

import errno
import locale
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import typer

from labctl.errors import LabError

#: Characters that command a terminal or turn text around, where a name or a path should only be read.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text whose control characters are written out: ``\\x1b[2J``."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def complain(message: str, hint: str = "") -> None:
    """Print an error and the next command to standard error."""
    typer.echo(visible(f"error: {message}"), err=True)
    if hint:
        typer.echo(visible(f"  try: {hint}"), err=True)


class Stream:
    """A standard stream; all but writing is that of the stream itself.

    :param name: its name in messages; empty for one that is silent when it cannot be written, as nobody can be told.
    """

    def __init__(self, stream: IO[str], name: str) -> None:
        self._stream, self._name = stream, name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text.

        :raises LabError: the stream cannot be written, because its disk is full for example.
        :raises BrokenPipeError: its reader has ended.
        """
        if text == "":  # a probe, which an unbuffered stream would write
            return 0
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """Write what is left; errors as in :meth:`write`."""
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        # what is still in its buffer goes nowhere: Python would try again at its end
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)
        if not self._name:
            return
        if error.errno == errno.EPIPE:
            raise error
        raise LabError(f"{self._name}: {error.strerror}") from error


def forget_odd_sizes() -> None:
    """Drop sizes of the terminal from the environment that are none."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        if not re.fullmatch("[1-9][0-9]{0,4}", os.environ.get(name, "1")):
            del os.environ[name]


@contextmanager
def streams() -> Iterator[None]:
    """Use such streams inside the block; closed ones lead nowhere, and files are UTF-8 in every locale."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be the standard output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    forget_odd_sizes()
    if locale.getencoding().lower() not in ("utf-8", "utf8"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    before = sys.stdout, sys.stderr
    sys.stdout = _stream(sys.stdout, 1, "standard output")
    sys.stderr = _stream(sys.stderr, 2, "")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _stream(stream: IO[str] | None, number: int, name: str) -> Any:
    return Stream(stream or cast("IO[str]", os.fdopen(number, "w", closefd=False)), name)
