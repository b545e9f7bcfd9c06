"""Sizes and durations as people write them: ``4 GiB``, ``512MiB``, ``45 min``, ``2 h``."""

from __future__ import annotations

import re
from typing import Any

#: Binary steps, as memory and disks are sized in practice: ``G`` is ``GiB``, as qemu-img and lvcreate read it.
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
#: The least and the most memory of a machine, in MiB: between them a number without a unit is MiB.
LEAST_MEMORY, MOST_MEMORY = 64, 2**24
_SIZE = re.compile(r"^\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?:i?b)?\s*$", re.IGNORECASE)


def parse_size(value: Any) -> int:
    """Return bytes.

    :raises ValueError: when the text is not a size or not a whole number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("write a size like '4 GiB' or '512 MiB'")  # noqa: TRY004 (pydantic wants it)
    if isinstance(value, int):
        return value
    match = _SIZE.match(value)
    if not match:
        raise ValueError(f"'{value}' is not a size; write it like '4 GiB' or '512 MiB'")
    size = float(match["number"]) * UNITS[match["unit"].lower()]
    if size != int(size):
        raise ValueError(f"'{value}' is not a whole number of bytes")
    return int(size)


def _plain(value: Any) -> int | None:
    """A number without a unit, as a number or as text."""
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal()) else None


def parse_memory(value: Any) -> int:
    """Return a machine's memory in bytes; a number without a unit is MiB, as hypervisors and nova read it.

    From 64 MiB on a number can only be bytes, as lab records hold it.

    :raises ValueError: when the text is not a size, or the number is no machine's memory in MiB.
    """
    number = _plain(value)
    if number is None or LEAST_MEMORY * 2**20 <= number <= MOST_MEMORY * 2**20:
        return parse_size(value)
    if not LEAST_MEMORY <= number <= MOST_MEMORY:
        meant = f"{number} GiB" if 0 < number < LEAST_MEMORY else "4 GiB"
        raise ValueError(f"{number} MiB is not a machine's memory; write it with a unit, like '{meant}'")
    return number * 2**20


def parse_disk(value: Any) -> int:
    """Return a disk's size in bytes.

    :raises ValueError: when the text is not a size, or has no unit: tools differ in what they read then.
    """
    number = _plain(value)
    if number is None:
        return parse_size(value)
    meant = f"{number} GiB" if 0 < number < 2**20 else "40 GiB"
    raise ValueError(f"{number} has no unit; write it like '{meant}'")


def show_size(size: int) -> str:
    """Return a size as :func:`parse_size` reads it: ``4 GiB``, ``1.5 GiB``, ``512 MiB``."""
    for unit, step in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{size / step:.3g} {unit}" if size % step else f"{size // step} {unit}"
    return f"{size} B"


#: Seconds per unit of time.
TIMES = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"^\s*(?P<number>[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(?P<unit>[a-z]+)\s*$", re.IGNORECASE)


def parse_time(value: Any) -> int:
    """Return seconds; a plain number is in seconds.

    :raises ValueError: when the text is not a duration or not a whole number of seconds.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _TIME.match(value) if isinstance(value, str) else None
    if not match or match["unit"].lower() not in TIMES:
        raise ValueError(f"write a duration like '45 min' or '2 h', not {str(value)!r}")
    seconds = float(match["number"]) * TIMES[match["unit"].lower()]
    if seconds != int(seconds) or seconds <= 0:
        raise ValueError(f"'{value}' is not a positive whole number of seconds")
    return int(seconds)
