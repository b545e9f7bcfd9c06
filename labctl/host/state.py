"""labctl's own state files, read: each is checked against its type, and one that is damaged is named."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from labctl.errors import LabError
from labctl.host import files

#: More than any state file, in bytes.
LARGEST = 64 * 2**20


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read(path: Path, kind: Any, hint: str) -> Any:
    """The content of a JSON file.

    :param kind: its type, as pydantic reads it.
    :param hint: what ends the trouble.
    :raises LabError: the file cannot be read, is larger than 64 MiB, or labctl did not write this.
    """
    try:
        with files.opened(path) as source:
            content = source.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError("it is too large")
        return _adapter(kind).validate_json(content)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "labctl did not write this"
        raise LabError(f"{path} cannot be read: {reason}", hint) from error
