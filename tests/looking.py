"""The functions of look.sh as a node runs them, in a shell of the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from labctl.operations.look import FUNCTIONS
from labctl.operations.script import prelude


def seen(body: str, place: Path, programs: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The status and output of the body of a look.

    :param programs: programs of the node, as sh; each goes before the machine's own.
    """
    own = place / "bin"
    for name, text in (programs or {}).items():
        own.mkdir(exist_ok=True)
        (own / name).write_text(f"#!/bin/sh\n{text}\n")
        (own / name).chmod(0o755)
    script = place / "program.sh"
    script.write_text(f"{prelude()}\n{FUNCTIONS.read_text()}\nPATH={own}:$PATH\nlook_it() {{\n{body}\n}}\nlook_it\n")
    environment = {**os.environ, "LABCTL_FACTS": str(place / "no-facts")}
    done = subprocess.run(["sh", script], capture_output=True, text=True, timeout=60, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr
