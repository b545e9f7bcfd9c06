"""Nights without machines: a matrix of small labs, and a labctl whose driver is the fake one."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import SMALL, write

from labctl.host import process
from labctl.nightly import matrix as matrices
from labctl.nightly import run as running
from labctl.nightly.history import History
from labctl.nightly.run import Night
from labctl.nightly.steps import Steps

STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass
class Bench:
    """A folder with three topologies, a matrix of them, and the script of what becomes of each call."""

    folder: Path
    history: History = field(init=False)

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            write(self.folder, SMALL.replace("name: small", f"name: {name}"), f"{name}.yaml")
        self.matrix("retries: 0")
        self.script({})
        self.history = History()

    def matrix(self, more: str = "", entries: str = "") -> Path:
        """Write nightly.yaml."""
        entries = entries or "".join(f"  - topology: {name}.yaml\n" for name in ("alpha", "beta", "gamma"))
        return write(self.folder, f"matrix:\n{entries}{more}\n", "nightly.yaml")

    def script(self, actions: dict[str, dict[str, list[str]]], *, real: bool = False) -> None:
        """Say what becomes of calls; see ``stand_in.py``."""
        (self.folder / "script.json").write_text(json.dumps({**actions, "real": real}))

    @property
    def steps(self) -> Steps:
        """Steps that call the stand-in."""
        environment = {"STAND_IN": str(self.folder)}
        return Steps(lambda: False, (sys.executable, str(STAND_IN)), environment)

    def calls(self, verb: str = "") -> list[list[str]]:
        """The calls so far: ``begin`` or ``end``, verb, lab, pid, time."""
        path = self.folder / "calls"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [words for words in lines if verb in ("", words[1])]

    def begin(self, *only: str, jobs: int = 3, keep: bool | None = None) -> Night:
        """Begin a run."""
        found = matrices.load(self.folder / "nightly.yaml")
        return running.begin(self.history, found, found.only(only), jobs, keep, self.steps)

    def night(self, *only: str, jobs: int = 3, keep: bool | None = None) -> dict[str, dict[str, Any]]:
        """A whole run; its cells by name."""
        night = self.begin(*only, jobs=jobs, keep=keep)
        rows = night.run()
        running.finish(self.history, night.number, rows)
        return {row["name"]: row for row in rows}

    def process(self, *words: str) -> Any:
        """``labctl nightly run`` as a process of its own, which can be killed."""
        code = (
            "import functools, sys; from labctl.nightly import run, steps; from labctl import __main__;"
            f"run.Steps = functools.partial(steps.Steps, command=({sys.executable!r}, {str(STAND_IN)!r}));"
            "sys.argv[0] = 'labctl'; __main__.main()"
        )
        log = (self.folder / "out").open("ab")
        arguments = ["nightly", "run", *words] if "--resume" in words else self._arguments(words)
        return process.start(
            [sys.executable, "-c", code, *arguments], log=log, env={**os.environ, "STAND_IN": str(self.folder)}
        )

    def _arguments(self, words: tuple[str, ...]) -> list[str]:
        return ["nightly", "run", "--file", str(self.folder / "nightly.yaml"), *words]

    @property
    def said(self) -> str:
        """What processes printed."""
        return (self.folder / "out").read_text()

    def stages(self, cell: int) -> dict[str, dict[str, Any]]:
        """The stages of the last attempt at a cell."""
        query = "SELECT * FROM stages WHERE attempt = (SELECT max(id) FROM attempts WHERE cell = ?)"
        return {row["name"]: row for row in self.history.rows(query, [cell])}
