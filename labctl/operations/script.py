"""Compile operations into one POSIX sh program per stage and node."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from labctl.operations import look, source
from labctl.operations.node import Item, Parallel, flatten
from labctl.operations.populate import Invocations

_PRELUDE = Path(__file__).with_name("prelude.sh")
_FORKED = Path(__file__).with_name("forked.py")
#: Tests whether a kernel runs under KVM; run on this machine and on nodes.
KVM_PROBE = Path(__file__).with_name("kvm.sh")


@cache
def prelude() -> str:
    """The functions every program starts with."""
    return _PRELUDE.read_text()


#: A line of sh in which every quote that it opens is closed, and no backslash ends it: POSIX, Shell Command
#: Language, 2.2.
_WHOLE = re.compile(r"""(?:[^'"\\]++|\\.|'[^']*+'|"(?:[^"\\]++|\\.)*+")*+""", re.DOTALL)


@cache
def forked() -> str:
    """The function that runs commands of a program in processes that share its imports, by its own interpreter."""
    return (
        "forked() { # program [user status stamp words]...\n"
        '    program=$(command -v "$1") || { echo "$1: not found"; return 1; }\n'
        "    shift\n"
        f'    $(sed -n \'1s/^#! *//p\' "$program") - "$program" "$@" <<\'EOF\'\n{_FORKED.read_text()}EOF\n'
        "}\n"
    )


def _keeps_columns(body: str) -> bool:
    """True when quoted text or a here-document spans lines, so indenting would change it."""
    return "<<" in body or not all(map(_WHOLE.fullmatch, body.splitlines()))


def program(title: str, items: tuple[Item, ...]) -> str:
    """Return the program that runs these operations; secrets are still marks.

    Without arguments it runs everything and prints one line per operation,
    ``##labctl NUMBER ok|changed|failed NANOSECONDS``; an operation's own output goes to ``NUMBER.out``
    beside the program. It stops after the first operation (or parallel group) that failed.
    """
    operations = flatten(items)
    parts = ["#!/bin/sh", f"# labctl: {title}", prelude()]
    if any(isinstance(operation, look.Look) for operation in operations):
        parts.append(look.FUNCTIONS.read_text())
    if any(isinstance(operation, source.SourceTree | source.NoSource) for operation in operations):
        parts.append(source.FUNCTIONS.read_text())
    if any(isinstance(operation, Invocations) for operation in operations):
        parts.append(forked())
    for number, operation in enumerate(operations):
        body = operation.shell()
        if not _keeps_columns(body):
            body = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
        parts.append(f"op_{number}() {{ # {operation.title}\n{body}\n}}\n")
    parts.append('if [ "${1:-}" = operation ]; then\n    run_operation "$2"\n    exit\nfi\n')
    number = 0
    for item in items:
        if isinstance(item, Parallel):
            numbers = " ".join(str(number + k) for k in range(len(item.operations)))
            parts.append(f"in_parallel {item.jobs} {numbers} || exit 1" if numbers else ":")
            number += len(item.operations)
        else:
            parts.append(f"run_operation {number} || exit 1")
            number += 1
    return "\n".join(parts) + "\n"
