"""JUnit files: read those of a suite, write those of a cell and of a run."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, JUnitXmlError, Skipped, TestCase, TestSuite

from labctl.errors import LabError
from labctl.host import files

#: What can become of a test, the worst first.
OUTCOMES = ("failed", "known", "passed", "skipped")
_UNPRINTABLE = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """A test: its id for the suite's runner, ``passed``, ``failed``, ``skipped`` or ``known``, and why.

    ``known``: it fails on a working lab too.
    """

    name: str
    outcome: str
    seconds: float
    message: str = ""


def read(path: Path) -> list[Case]:
    """The tests of a JUnit file; several results of one test (its call and its teardown) are merged.

    :raises LabError: the file is missing, or is not a JUnit file.
    """
    try:
        suites = _suites(path)
    except (OSError, JUnitXmlError, SyntaxError, ValueError) as error:
        raise LabError(f"{path} is not a JUnit file: {error}") from error
    found: dict[str, Case] = {}
    for suite in suites:
        for case in suite:
            made = _case(case)
            before = found.get(made.name)
            if before is None or made.outcome == "failed":
                seconds = made.seconds + (before.seconds if before else 0)
                found[made.name] = Case(made.name, made.outcome, seconds, made.message)
    return list(found.values())


def _suites(path: Path) -> list[TestSuite]:
    root = JUnitXml.fromfile(str(path))
    return [root] if isinstance(root, TestSuite) else list(root)


def _case(case: TestCase) -> Case:
    outcome, message = "passed", ""
    for result in case.result:
        if isinstance(result, Failure | Error):
            said, text = str(result.message or ""), str(result.text or "")
            outcome, message = "failed", text if said in text else f"{said}\n{text}".strip()
        elif isinstance(result, Skipped) and outcome == "passed":
            outcome, message = "skipped", str(result.message or result.text or "")
    return Case(test_id(case.classname or "", case.name or ""), outcome, float(case.time or 0), message)


def test_id(classname: str, name: str) -> str:
    """The id that reruns a test: ``e2e/test_network.py::test_x``, or tempest's dotted one.

    pytest writes the module, and the class if any, with dots.
    """
    parts = classname.split(".")
    if not any(part.startswith("test_") for part in parts) or parts[0] == "tempest":
        return f"{classname}.{name}" if classname else name
    end = next(i for i, part in enumerate(parts) if part.startswith("test_")) + 1
    return "::".join(["/".join(parts[:end]) + ".py", *parts[end:], name])


def write(path: Path, suites: Iterable[tuple[str, Iterable[Case]]]) -> None:
    """Write a JUnit file of named suites.

    :raises OSError: it cannot be written.
    """
    root = JUnitXml("labctl nightly")
    for name, cases in suites:
        suite = TestSuite(_printable(name))
        for case in cases:
            made = TestCase(_printable(case.name), classname=_printable(name), time=round(case.seconds, 3))
            first = first_line(case.message)
            if case.outcome == "failed":
                failure = Failure(_printable(first))
                failure.text = _printable(case.message)
                made.result = [failure]
            elif case.outcome == "skipped":
                made.result = [Skipped(_printable(first))]
            suite.add_testcase(made)
        root.add_testsuite(suite)
    root.update_statistics()  # type: ignore[no-untyped-call]
    text = io.BytesIO()
    root.write(text, pretty=True)
    files.write_atomic(path, text.getvalue())


def counts(cases: Iterable[Case]) -> str:
    """How many tests ended how, the failed ones first."""
    found = Counter(case.outcome for case in cases)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES if found[outcome])


def failures(cases: Sequence[Case], most: int = 20) -> str:
    """What failed, by id, one in each line; empty if nothing did."""
    failed = [case.name for case in cases if case.outcome == "failed"]
    more = [f"and {len(failed) - most} more"] if len(failed) > most else []
    return "\n".join([f"{len(failed)} of {len(cases)} tests failed:", *failed[:most], *more]) if failed else ""


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.strip().partition("\n")[0]


def _printable(text: str) -> str:
    """Text with what XML 1.0 cannot hold as its number, as pytest writes it."""
    return _UNPRINTABLE.sub(lambda found: f"#x{ord(found[0]):02X}", text)
