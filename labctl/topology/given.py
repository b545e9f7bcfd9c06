"""The file that somebody named: a plain one, standard input, a pipe; and what none can be read from."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

from labctl.topology.document import MAX_FILE, decode
from labctl.topology.problems import Problem, TopologyError

#: What ``-`` names.
STDIN = Path("/dev/stdin")
#: Seconds in which somebody must write to a FIFO; a pipe of a shell, ``<(...)``, has a writer.
PATIENCE = 3.0


def there(path: Path) -> bool:
    """True when there is something to read; also a pipe or a device, but no directory."""
    return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112 (Path raises for a name of 300 letters)


def contents(path: Path) -> str:
    """The text of a file.

    :raises TopologyError: it cannot be read, is larger than 1 MiB, or is not UTF-8.
    """
    try:
        data = _read(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TopologyError([Problem(str(path), 1, 1, "", f"cannot be read: {reason}")]) from error
    return decode(data, str(path))


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as source:
        if stat.S_ISFIFO(os.fstat(handle).st_mode):
            anonymous = "/fd/" in os.path.realpath(path)
            if not select.select([handle], [], [], None if anonymous else PATIENCE)[0]:
                raise OSError(0, "it is a FIFO that nobody writes to")
        os.set_blocking(handle, True)
        return source.read(MAX_FILE + 1)
