"""Load topology files: YAML to the frozen model; reports every problem at once, with its position."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import LabError
from labctl.progress import warn
from labctl.topology.check import check, with_release
from labctl.topology.document import MAX_FILE, read
from labctl.topology.explain import explain, is_said, path_of
from labctl.topology.found import refuse_others
from labctl.topology.given import STDIN, contents, there
from labctl.topology.known import known, local
from labctl.topology.model import Topology
from labctl.topology.problems import Path as ValuePath
from labctl.topology.problems import Problem, TopologyError, unknown
from labctl.topology.rules_secrets import easily_guessed

__all__ = ["Problem", "TopologyError", "find", "here", "load", "named", "parse", "there"]

# Sections and node fields whose defaults cannot cause unrelated problems in check().
_HARMLESS_SECTIONS = {"description", "options", "fixtures", "passwords"}
_HARMLESS_NODE_FIELDS = {"cpus", "memory", "disk"}


#: The top of a file, and the sections that make it a topology.
_SECTION, _SECTIONS = re.compile(r"^(\w+):", re.MULTILINE), {"release", "networks", "nodes"}


def find(name_or_path: str) -> Path:
    """Return the file of a topology: a path, ``-`` for standard input, or a name from ``./topologies`` or labctl's own.

    :raises LabError: there is no such file, and the message lists the known names; or others could have written the
        one of that name.
    """
    if name_or_path == "-":
        return STDIN
    path = Path(name_or_path)
    is_path = "/" in name_or_path or path.suffix in (".yaml", ".yml")
    if there(path):
        if not is_path:
            refuse_others(path, f"name it ./{path}")
        return path
    if is_path:
        raise LabError(f"topology file {name_or_path} not found, or it is a directory")
    files = known()
    if name_or_path in files:
        file = files[name_or_path]
        if local(file):
            refuse_others(file, f"name its file ./{file}")
        return file
    message = unknown("topology", name_or_path, sorted(files))
    raise LabError(message, "use one of these names or the path of a file")


def here() -> list[Path]:
    """The files of the working directory that are topologies, by the sections that each has."""
    found = (file for pattern in ("*.yaml", "*.yml") for file in Path().glob(pattern) if file.is_file())
    return sorted(file for file in found if set(_SECTION.findall(_beginning(file))) >= _SECTIONS)


def _beginning(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return source.read(MAX_FILE).decode(errors="replace")
    except OSError:
        return ""


def load(path: Path, release: str | None = None) -> Topology:
    """Return the topology of a file.

    :param release: use this release instead of the file's.
    :raises TopologyError: with every problem of the file, or why it cannot be read.
    :raises LabError: there is no such release.
    """
    return parse(contents(path), str(path), release)


def named(name_or_path: str, release: str | None = None) -> tuple[Topology, Path]:
    """Return the topology of a name or a path, and its file; errors as in :func:`find` and :func:`load`."""
    path = find(name_or_path)
    return load(path, release), path


def parse(text: str, name: str, release: str | None = None) -> Topology:
    """Return the topology of a text; ``name`` is the file name in messages.

    If only values that no rule reads are malformed, the rules are checked as well, so the list is complete.
    Otherwise (a mistyped component, say) the rules would only report consequences.

    :raises TopologyError: with every problem of the text.
    """
    document = read(text, name)
    problems = list(document.problems)
    values = document.values
    topology, errors = _validate(values)
    if topology is None:
        explained = [explain(error, document, Topology) for error in errors if not is_said(error, document)]
        problems += dict.fromkeys(explained)  # both ends of a pool can be wrong in one text
        pruned = _prune(values, [path_of(e) for e in errors], [path_of(e) for e in errors if _is_unknown_key(e)])
        if pruned is not None:
            topology, _ = _validate(pruned)
    if topology is not None and release is not None:
        topology = with_release(topology, release)
    if topology is not None:
        problems += check(topology, document.positions)
    if problems or topology is None:
        raise TopologyError(problems)
    for problem in easily_guessed(topology, document.positions):
        warn("topology", str(problem))
    return topology


def _validate(values: dict[str, Any]) -> tuple[Topology | None, list[ErrorDetails]]:
    # Strict JSON mode matches what YAML writers mean: "4" and true are not numbers, but addresses and
    # enumerations are written as text.
    try:
        return Topology.model_validate_json(json.dumps(values), strict=True), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _prune(values: dict[str, Any], wrong: list[ValuePath], unknown_keys: list[ValuePath]) -> dict[str, Any] | None:
    """Return the values without the invalid ones, or None if leaving one out changes the meaning."""
    pruned: dict[str, Any] = json.loads(json.dumps(values))
    for path in wrong:
        if not path:  # the whole file is no mapping
            return None
        if path in unknown_keys:
            target = path
        elif path[0] in _HARMLESS_SECTIONS:
            target = path[: 1 if path[0] == "description" else 2]
        elif path[0] == "nodes" and len(path) > 2 and path[2] in _HARMLESS_NODE_FIELDS:
            target = path[:3]
        else:
            return None
        holder: Any = pruned
        for part in target[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(target[-1], None)
    return pruned


def _is_unknown_key(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden"
