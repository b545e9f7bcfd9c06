"""A diagnosis for what reports a failure: in words and as data, in time, and never a second failure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from labctl.diagnose.model import Diagnosis, Finding
from labctl.diagnose.patterns import Window
from labctl.diagnose.run import diagnose
from labctl.errors import LabError
from labctl.host.threads import result, started
from labctl.records.lab import Lab

#: Seconds for a diagnosis that nobody asked for; more on slow machines.
DEADLINE = 50


def rows(found: Diagnosis) -> dict[str, list[dict[str, Any]]]:
    """The findings as data: causes, consequences, hints."""
    kinds = {"causes": found.causes, "consequences": found.consequences, "hints": found.hints}
    return {kind: [_row(finding) for finding in findings] for kind, findings in kinds.items()}


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "row": finding.row.id,
        "title": finding.row.title,
        "level": str(finding.level),
        "where": finding.where,
        "service": finding.service,
        "found": finding.found,
        "cause": finding.row.cause,
        "fix": finding.fix,
        "source": finding.row.source,
    }


@dataclass(frozen=True)
class Report:
    """What a diagnosis found, or why there is none."""

    found: Diagnosis = field(default_factory=lambda: Diagnosis(()))
    failure: str = ""

    @property
    def text(self) -> str:
        """The findings for a person."""
        if self.failure:
            return f"(no diagnosis: {self.failure})"
        return "\n".join(self.found.lines()) or "the diagnosis finds nothing wrong"

    def members(self) -> dict[str, str]:
        """Files of a bundle."""
        data = {"failure": self.failure, **rows(self.found)}
        return {"findings.txt": f"{self.text}\n", "findings.json": json.dumps(data, indent=1)}


def report(name: str, only: str = "", since: float | None = None, seconds: float = DEADLINE) -> Report:
    """Diagnose a lab; a diagnosis that fails, or is not done in time, says only that.

    :param since: log lines since then (seconds since the epoch).
    """
    try:
        lab = Lab.load(name)
        work = started(lambda: Report(diagnose(lab, only, Window.of(lab, since))))
        return result(work, seconds * lab.spec.patience)
    except LabError as error:
        return Report(failure=error.message)
    except Exception as error:  # must not hide the failure that it explains
        return Report(failure=f"{type(error).__name__}: {error}")


def first(found: dict[str, Any]) -> str:
    """The first finding of :func:`rows` in one line, or nothing."""
    listed: Iterable[dict[str, Any]] = (*found.get("causes", ()), *found.get("hints", ()))
    return next((f"{f['row']} {f['title']} ({f['where']}, {f['service']}): {f['found']}" for f in listed), "")
