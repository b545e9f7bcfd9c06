"""Rows of listings that several verbs print."""

from __future__ import annotations

import time

from labctl.lab import fault
from labctl.records.lab import Lab


def faults(lab: Lab) -> list[dict[str, object]]:
    """The faults of a lab as rows of a listing."""
    now = time.time()
    return [
        {
            "fault": str(f.kind),
            "node": f.node,
            "target": f.target,
            "detail": str(f.shape),
            "since": f"{(now - f.since) / 60:.0f} min",
            "at": f.since,
        }
        for f in fault.active(lab)
    ]
