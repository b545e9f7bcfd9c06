"""Owner and lease of labs: the options that give them, and how they are shown."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from labctl.records import lease
from labctl.records.lab import Lab

Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="how long it is kept from now on: 90min, 8h, 2d, or never")
]
Owner = Annotated[str | None, typer.Option("--owner", metavar="NAME", help="whose it is; default: who runs labctl")]


def show_age(seconds: float) -> str:
    """A human-readable length of time: ``40 s``, ``5 min``, ``3.2 h``, ``4 d``."""
    for unit, size in (("d", 86400 * 2), ("h", 5400), ("min", 90)):
        if seconds >= size:
            value = seconds / {"d": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:.1f} {unit}" if unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds:.0f} s"


def rows(lab: Lab) -> dict[str, Any]:
    """A lab's owner and lease for a listing; ``expires_at`` in seconds since the epoch, None for a lab without one."""
    left = lease.left(lab)
    return {
        "owner": lease.owner(lab) or "-",
        "expires": "-" if left is None else f"in {show_age(left)}" if left > 0 else "expired",
        "expires_at": None if left is None else round(time.time() + left),
    }


def told(lab: Lab) -> str:
    """The same in words: ``anna, expires in 3.2 h (2026-11-30 18:00)``."""
    shown = rows(lab)
    if shown["expires_at"] is None:
        return f"{shown['owner']}, does not expire"
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(shown["expires_at"]))
    left = shown["expires"]
    return f"{shown['owner']}, {left} since {at}" if left == "expired" else f"{shown['owner']}, expires {left} ({at})"
