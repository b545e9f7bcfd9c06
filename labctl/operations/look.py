"""Compare a node with the plan without changing it: the read-only side of every operation.

An operation knows what a node should be like, so diagnosis asks the operations themselves; a new one needs an answer
here, or it is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path

from labctl.operations import node
from labctl.operations.node import quote
from labctl.operations.populate import Invocations

#: The functions that the answers call; they follow a program's own.
FUNCTIONS = Path(__file__).with_name("look.sh")
#: Where files beside unit files lie.
UNITS = "/etc/systemd/system/"


@dataclass(frozen=True)
class Look:
    """A test of whether a node still is as an operation left it; its output says what differs."""

    operation: node.Operation
    test: str

    @property
    def title(self) -> str:
        return self.operation.title

    def shell(self) -> str:
        return self.test

    def guide(self) -> str:
        return self.test


def looks(operations: tuple[node.Operation, ...]) -> tuple[Look, ...]:
    """The tests of those operations that have one; each thing is compared with the last operation that sets it."""
    last = {operation.title: operation for operation in operations}
    made = tuple(Look(operation, test) for operation in last.values() if (test := look(operation)))
    # what the plan writes beside unit files is no change by hand
    beside = [quote(o.path) for o in last.values() if isinstance(o, node.File) and o.path.startswith(UNITS)]
    return tuple(
        replace(item, test=" ".join((item.test, *beside))) if isinstance(item.operation, node.Unit) else item
        for item in made
    )


@singledispatch
def look(operation: node.Operation) -> str:
    """The body of an sh function that compares; empty where there is nothing to compare."""
    return ""


def _call(function: str, *words: str) -> str:
    return " ".join((function, *map(quote, words)))


@look.register
def _(wanted: node.File) -> str:
    return _call("look_file", wanted.payload, wanted.path, wanted.owner, wanted.group, wanted.mode)


@look.register
def _(wanted: node.Directory) -> str:
    return _call("look_directory", wanted.path, wanted.owner, wanted.group, wanted.mode)


@look.register
def _(wanted: node.Link) -> str:
    return _call("look_link", wanted.path, wanted.target)


@look.register
def _(wanted: node.Assign) -> str:
    calls = (_call("look_assign", wanted.path, key, wanted.separator, value) for key, value in wanted.values)
    return "state=0\n" + "".join(f"{call} || state=1\n" for call in calls) + "return $state"


@look.register
def _(wanted: node.Command) -> str:
    if not wanted.unless:
        return ""
    return f"{{ {wanted.unless}\n}} >/dev/null 2>&1 || {{ echo 'is not so'; return 1; }}"


@look.register(node.Chain)
@look.register(Invocations)
def _(wanted: node.Chain | Invocations) -> str:
    tests = [test for command in wanted.commands if (test := look(command))]
    return "\n".join(tests)


@look.register
def _(wanted: node.Packages) -> str:
    return _call("look_packages", *wanted.names)


@look.register
def _(wanted: node.Distributions) -> str:
    return wanted.shell()


@look.register
def _(wanted: node.Unit) -> str:
    return _call("look_unit", wanted.name)


@look.register
def _(wanted: node.Wait) -> str:
    return _call("look_ready", wanted.test)


@look.register
def _(wanted: node.Database) -> str:
    return f"{wanted.test()} 2>&1 >/dev/null"
