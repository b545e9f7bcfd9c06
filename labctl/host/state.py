"""labctl's own state files, read: each is checked against its type, and one that is damaged is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EIO
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import LabError
from labctl.host import files, paths

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: More than any state file, in bytes.
LARGEST = 64 * 2**20


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # __main__ needs this module, and most errors no model

    return TypeAdapter(kind)


def failing(path: Path) -> LabError:
    """The error of a file that the disk did not give, or did not take: to remove it would lose it."""
    hint = f"dmesg | tail -n 20 names the disk; copy what you need of {paths.home()} before anything else"
    return LabError(f"{path} cannot be read or written: input/output error; the disk may be failing", hint)


def read(path: Path, kind: Any, hint: str | Callable[[], str]) -> Any:
    """The content of a JSON file.

    :param kind: its type, as pydantic reads it.
    :param hint: what ends the trouble; called only for an error where it has to be found out.
    :raises LabError: the file cannot be read, is larger than 64 MiB, or labctl did not write this.
    """
    try:
        with files.opened(path) as source:
            large = os.fstat(source.fileno()).st_size > LARGEST
            content = b"" if large else source.read(LARGEST + 1)
        if large or len(content) > LARGEST:
            raise ValueError("it is too large")
        return _adapter(kind).validate_json(content)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == EIO:
            raise failing(path) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "labctl did not write this"
        raise LabError(f"{path} cannot be read: {reason}", hint() if callable(hint) else hint) from error
