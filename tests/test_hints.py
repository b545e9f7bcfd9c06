"""What labctl tells people to type can be typed: every hint's command is one, with the right things in its places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hints
import pytest
import typer
from hints import CELL, LAB, NEW, NODE, POOL, SNAPSHOT, TOPOLOGY, Said, commands, said, said_in

from labctl.__main__ import UsageErrors
from labctl.cli import app
from labctl.commands.fault import ACTIONS

ROOT: Any = typer.main.get_command(app)
VERBS = {verb: getattr(command, "commands", {}) for verb, command in ROOT.commands.items()}
SAID = list(said())
#: Names of labs in the source itself.
OWN = {"zed-2node"}
#: What an argument must be, by its name; elsewhere it may be anything that is no prose.
KINDS = {
    "lab": {LAB, NEW, "NAME", "again"},
    "node_name": {NODE, "NODE"},
    "snapshot": {SNAPSHOT, "NAME"},
    "topology": {TOPOLOGY, *OWN},
    "topologies": {TOPOLOGY, *OWN},
    "new": {NEW, "NAME"},
    "node": {NODE, "NODE"},
    "cell": {CELL},
}
#: What ``name`` is: of a lab, but for these verbs.
NAMED = {"image": {"CentOS-7-x86_64-Minimal-2009.iso"}, "pool": {POOL}}
#: Placeholders for what is the reader's own choice.
CHOSEN = {"FILE", "DIRECTORY", "URL", "COMMIT", "ID", "SERVER"}


class WrongError(Exception):
    """A command that cannot be typed."""


def resolved(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The verb and the arguments of a command line, by labctl's own parser.

    :raises WrongError: it does not take it.
    """
    if words == ["--version"]:
        return [], {}
    command, verb, rest = ROOT, [], words[2:] if words[:1] == ["--host"] else words
    while hasattr(command, "commands"):
        rest = getattr(command, "completed", list)(rest)
        if not rest or rest[0] not in command.commands:
            raise WrongError(f"no verb: {' '.join(words)}")
        command, verb, rest = command.commands[rest[0]], [*verb, rest[0]], rest[1:]
    if "--help" in rest:
        return verb, {}
    try:
        return verb, command.make_context(verb[-1], list(rest)).params
    except UsageErrors as error:
        raise WrongError(f"{' '.join(words)}: {error}") from error


def checked(words: list[str]) -> None:
    """Parse a command and look at what stands in its places.

    :raises WrongError: it cannot be typed, or has a lab where a topology belongs, or prose.
    """
    verb, given = resolved(words)
    if verb == ["fault"] and given:
        given = faulted(given.pop("words")) | given
    if verb == ["up"] and given.get("ttl") and given["topology"] == LAB:  # it renews a lab
        given.pop("topology")
    if verb == ["pool", "create"]:
        given["name"], _, given["snapshot"] = given["snapshot"].partition("/")
        verb = ["snapshot"]
    for name, value in given.items():
        if value is None or isinstance(value, bool | int | Path):
            continue
        wanted = NAMED.get(verb[0], KINDS["lab"]) if name == "name" else KINDS.get(name)
        for word in value if isinstance(value, list | tuple) else [value]:
            if wanted is not None and word not in wanted:
                raise WrongError(f"{' '.join(words)}: {word!r} is no {name}")


def faulted(words: list[str]) -> dict[str, Any]:
    """The words of ``labctl fault`` by what they are."""
    if words[0] in ("heal", "list") and len(words) == 2:
        return {"lab": words[1]}
    lab, what, action, *names = words if len(words) > 2 else ("", "", "")
    if (what, action) not in ACTIONS or len(names) != len(ACTIONS[(what, action)][0]):
        raise WrongError(f"fault {' '.join(words)}")
    return {"lab": lab, "node": names[0]}


def command_in(words: list[str]) -> list[str]:
    """The command with which words begin: as many of them as make one, before the sentence goes on.

    :raises WrongError: none.
    """
    wrong = WrongError("no words")
    for end in range(len(words), 0, -1):
        try:
            checked(words[:end])
        except WrongError as error:
            wrong = error
            continue
        if end < len(words) and not re.match(r"[a-z(]", words[end]):
            raise WrongError(f"{' '.join(words)}: what is {words[end]}?")
        return words[:end]
    raise wrong


def problems(one: Said) -> list[str]:
    """What is wrong with the commands of a text."""
    found, listed = [], set()
    lines = list(commands(one.text, strict=one.hint, verbs=VERBS))
    for words in lines:
        try:
            line = command_in(words)
        except WrongError as error:
            found.append(f"{one.place}: labctl {error}")
            continue
        if "list" in line[:2]:
            listed.add(" ".join(line[:2]))
        if holes := [word for word in line if "«" in word]:
            found.append(f"{one.place}: tests/hints.py does not say what {' '.join(holes)} stands for")
        placeholders = {word for word in line if re.fullmatch(r"[A-Z]{2,}", word)} - CHOSEN
        new = "--name" in line and line[line.index("--name") + 1] == "NAME"
        named_above = not one.hint and placeholders == {"NODE"}
        if placeholders and not listed and not new and not named_above:
            found.append(f"{one.place}: labctl {' '.join(line)}: what is {' '.join(placeholders)}?")
    return found


def test_every_command_that_labctl_can_print_can_be_typed() -> None:
    assert [problem for one in SAID for problem in problems(one)] == []


def test_the_hints_are_found() -> None:
    assert len([one for one in SAID if one.hint]) > 100
    assert any("labctl ssh lab-1 node-1" in one.text for one in SAID)
    assert any(one.text == f"labctl down {LAB}; {hints.UP}" and one.hint for one in SAID)


@pytest.mark.parametrize(
    "hint",
    [
        'f"labctl up {lab.name}"',
        '"labctl status LAB"',
        'f"labctl status {lab.name} --chek"',
        'f"labctl statsu {lab.name}"',
        'f"labctl down {lab.name}, then labctl up"',
        '"labctl down OTHER frees memory"',
        '"labctl down NAME frees memory"',
        'f"labctl up {path} --relase zed"',
        'f"labctl repair {lab.name}, or labctl up with its topology"',
        'f"labctl fault {lab.name} link cut {node}"',
        'f"labctl ssh {node} {lab.name}"',
        'f"labctl status {who}"',
    ],
)
def test_a_hint_that_cannot_be_typed_is_found(hint: str) -> None:
    (one,) = said_in("labctl/lab/x.py", f'raise LabError("it failed", {hint})')
    assert problems(one)


@pytest.mark.parametrize(
    "hint",
    [
        'f"labctl repair {lab.name}; labctl status {lab.name} --check shows what is wrong"',
        '"labctl list shows the labs; labctl down NAME frees the memory of one"',
        'f"labctl exec {lab.name} -- openstack server list"',
        'f"labctl fault {lab.name} link shape {node} {network} --loss 5%"',
        'f"{lab.up()} resumes"',
        '"labctl up zed-2node creates one"',
    ],
)
def test_a_hint_that_can_be_typed_is_none(hint: str) -> None:
    (one,) = said_in("labctl/lab/x.py", f'raise LabError("it failed", {hint})')
    assert problems(one) == []
