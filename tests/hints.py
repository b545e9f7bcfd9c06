"""The commands that labctl tells people to type, read off its source: which string, with what in its holes."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from support import ROOT

PACKAGE = ROOT / "labctl"

#: Stand-ins, by what they stand for.
LAB, NEW, NODE, TOPOLOGY, SNAPSHOT = "lab-1", "lab-2", "node-1", "/topologies/topology-1.yaml", "snapshot-1"
POOL = "pool-1"
NETWORK, UNIT, CELL, BASE, RELEASE, FILE = "network-1", "unit-1", "cell-1", "debian12", "zed", "/file-1"
MACHINE = "ssh://user@machine"
UP = f"labctl up {TOPOLOGY} --name {LAB} --base {BASE}"
ANOTHER = f"labctl up {TOPOLOGY} --name NAME --base {BASE}"

#: What the holes of commands stand for: anywhere, or in one module.
HOLES = {
    **dict.fromkeys(
        (
            "lab",
            "lab.name",
            "lab.lab",
            "self._lab",
            "self.lab",
            "self.lab.name",
            "self._lab.name",
            "self._lab.lab",
            "lab_name",
        ),
        LAB,
    ),
    **dict.fromkeys(("name", "spec.name", "item.name", "machine.mark.lab", "shlex.quote(name)"), LAB),
    **dict.fromkeys(("s.row['lab']", "row['lab']"), LAB),
    **dict.fromkeys(("lab.up()", "state.up()", "self.up()", "self._lab.up", "lab.up", "project.lab.up"), UP),
    **dict.fromkeys(("lab.up('NAME')", "hints.up(spec, path, 'NAME')"), ANOTHER),
    **dict.fromkeys(("node", "target", "copy.source", "node.name", "node_name"), NODE),
    **dict.fromkeys(("cell", "self.cell.name", "s.cell"), CELL),
    **{"network": NETWORK, "unit": UNIT, "release": RELEASE, "base": BASE, "spec.base": BASE, "spec.release": RELEASE},
    **{"first.name": "CentOS-7-x86_64-Minimal-2009.iso", "new": NEW, "file": FILE, "number": "7", "result.run": "7"},
}
HOLES_IN = {
    "labctl/commands/fault.py": {
        "words[0]": LAB,
        "' '.join(words)": f"heal {LAB}",
        "' '.join(words[3:])": "node-1 network-1",
    },
    "labctl/diagnose/apis.py": {
        "host": NODE,
        "lab.context.base.unit(daemon)": UNIT,
        "words": "openstack endpoint list",
    },
    "labctl/diagnose/expected.py": {"operation.name": UNIT, "shell": f"systemctl restart {UNIT}"},
    "labctl/doctor/cloud.py": {"known[0]": "cloud-1"},
    "labctl/drivers/openstack/cloud.py": {"words": "server list", "kind": "image"},
    "labctl/drivers/openstack/configured.py": {"near": "cloud-1"},
    "labctl/diagnose/patterns.py": {"search.service": "nova", "since": "2026-01-31T09:30:00+00:00"},
    "labctl/images/media.py": {"medium.name": "CentOS-7-x86_64-Minimal-2009.iso", "path": "/media.iso"},
    "labctl/diagnose/run.py": {"probe.words": "true"},
    "labctl/testing/capture.py": {"shlex.quote(nodeid)": "test-1"},
    "labctl/records/lab.py": {"hints.first(name)": "labctl up zed-2node", "self.name": LAB},
    "labctl/testing/plugin.py": {"name": LAB, "Lab.load(name).up()": UP},
    "labctl/lab/nodes.py": {"command": UP},
    "labctl/commands/lifecycle.py": {"command": UP},
    "labctl/topology/join.py": {"name": NODE},
    "labctl/lab/room.py": {"snapshot.name": SNAPSHOT},
    "labctl/lab/snapshot.py": {"name": SNAPSHOT},
    "labctl/lab/pool.py": {"pool": POOL, "wanted.name": POOL},
    "labctl/commands/pool.py": {"snapshot": f"{LAB}/{SNAPSHOT}", "size": "20"},
    "labctl/commands/guide.py": {"topology": "zed-2node", "words": ""},
    "labctl/commands/upgrade.py": {"wanted": f"--to {RELEASE}"},
    "labctl/sources/build.py": {"given.text": "nova=/tree"},
    "labctl/engine/sources.py": {"tree.project": "nova"},
    "labctl/commands/source.py": {"' '.join(where)": "nova=release"},
    "labctl/lab/source.py": {"each.text": "nova=release", "back": "nova=release"},
    "labctl/nightly/report.py": {"project": "nova", "place": "/nova", "old[:12]": "1a2b3c", "new[:12]": "4d5e6f"},
    "labctl/nightly/artefact.py": {"place": "/night"},
    "labctl/commands/nightly.py": {"place": "/night", "made.run": "7"},
    "labctl/upgrade/chain.py": {"back": "nova=release"},
    "labctl/upgrade/estate.py": {"self.access.lab": LAB},
    "labctl/upgrade/run.py": {"self.state.wanted": f"--to {RELEASE}", "hop.snapshot": SNAPSHOT},
    "labctl/commands/snapshot.py": {"snapshot": SNAPSHOT, "snapshot or ''": SNAPSHOT, "export.shown": FILE},
    "labctl/lab/origin.py": {"start": SNAPSHOT, "shlex.quote(export.shown)": FILE},
    "labctl/commands/forward.py": {"port": "6080", "socks": "socks5h://127.0.0.1:1080"},
    "labctl/remote/connection.py": {"url": MACHINE},
    "labctl/remote/run.py": {"connection.machine.url": MACHINE},
}
#: Of these the source says nothing that is typed.
NOT_TYPED = ("labctl/plan/words.py", "labctl/plan/guide.py", "labctl/diagnose/page.py")


@dataclass(frozen=True)
class Said:
    """A text that labctl can print, and whether it is what an error tells people to do."""

    place: str
    text: str
    hint: bool


class UnknownHoleError(Exception):
    """A command has something in it of which this module does not know what it stands for."""


def _hints(tree: ast.Module) -> set[ast.AST]:
    """Every string that is, or is part of, a hint: of an error, of a finding, or called so."""
    found: list[ast.AST] = []
    for item in ast.walk(tree):
        if isinstance(item, ast.Call):
            name = ast.unparse(item.func).rpartition(".")[2]
            if name.endswith(("Error", "Interrupted")):
                found += item.args[1:2]
            if name in ("Finding", "Facility"):
                found += item.args[3:]
            found += [word.value for word in item.keywords if word.arg == "hint"]
        elif isinstance(item, ast.Assign) and any(ast.unparse(t) in ("hint", "_HINTS") for t in item.targets):
            found.append(item.value)
    return {part for item in found for part in ast.walk(item)}


def _documents(tree: ast.Module) -> set[ast.AST]:
    """Strings that are no commands: docstrings, help of options, a grammar, the name of a format."""
    found: set[ast.AST] = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
            found.add(item.value)
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) in ("GRAMMAR", "FORMAT"):
            found.add(item.value)
        if isinstance(item, ast.Call):
            found |= {word.value for word in item.keywords if word.arg in ("help", "description", "title")}
    return found


def _texts(node: ast.expr, holes: dict[str, str]) -> list[str]:
    """What a string can be, with something plausible in its holes; an unknown hole keeps its name in «»."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(parts) for parts in itertools.product(*(_texts(part, holes) for part in node.values))]
    if isinstance(node, ast.FormattedValue):
        return _texts(node.value, holes)
    if isinstance(node, ast.IfExp):
        return _texts(node.body, holes) + _texts(node.orelse, holes)
    written = ast.unparse(node)
    return [holes.get(written, f"«{written}»")]


def said() -> Iterator[Said]:
    """Every string of labctl's source in which its name is, and every hint."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name not in NOT_TYPED:
            yield from said_in(name, path.read_text())


def said_in(name: str, source: str) -> Iterator[Said]:
    """The same of one module."""
    tree = ast.parse(source)
    hints, documents, holes = _hints(tree), _documents(tree), HOLES | HOLES_IN.get(name, {})
    parts = {part for item in ast.walk(tree) if isinstance(item, ast.JoinedStr) for part in ast.walk(item)} - {
        item for item in ast.walk(tree) if isinstance(item, ast.JoinedStr)
    }
    for item in ast.walk(tree):
        text = isinstance(item, ast.JoinedStr) or (isinstance(item, ast.Constant) and isinstance(item.value, str))
        if not text or item in documents or item in parts:
            continue
        assert isinstance(item, ast.expr)
        for words in _texts(item, holes):
            if "labctl" in words:
                yield Said(f"{name}:{item.lineno}", words, item in hints)


def commands(text: str, *, strict: bool, verbs: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """The words from each ``labctl`` on, up to where the text goes on about something else.

    :param strict: a hint: also where the next word is no verb, or has nothing of what it takes, which is a mistake;
        other texts may speak of a verb.
    :param verbs: each with the verbs below it.
    """
    for part in re.split(r"[;`\n]|[,:)](?= |$)", text):
        for found in re.finditer(r"(?<![\w/.«-])labctl(?= |$)", part):
            words = part[found.start() :].split()
            if strict or not _speaks(words[1:], verbs):
                yield words[1:]


def _speaks(words: list[str], verbs: Mapping[str, Collection[str]]) -> bool:
    """True when a text only speaks of labctl or of a verb, and goes on."""
    if not words or words[0] not in verbs:
        return True
    rest = words[2:] if words[1:] and words[1] in verbs[words[0]] else words[1:]
    return not rest or bool(re.fullmatch(r"[a-z]+\W?", rest[0]))
