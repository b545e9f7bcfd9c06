"""Topology files in: YAML to the frozen model, every problem at once, each with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import LabError
from labctl.topology.check import check, with_release
from labctl.topology.document import MAX_FILE, Document, Written, decode, read
from labctl.topology.model import Component, NetworkRole, Topology
from labctl.topology.problems import Path as ValuePath
from labctl.topology.problems import Problem, TopologyError, shorten, unknown

__all__ = ["Problem", "TopologyError", "find", "load", "parse"]

_NAME_RULE = "lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
# Sections and node fields whose defaults cannot make a rule of check() complain about something else.
_HARMLESS_SECTIONS = {"description", "options", "fixtures", "passwords"}
_HARMLESS_NODE_FIELDS = {"cpus", "memory", "disk"}


def find(name_or_path: str) -> Path:
    """Return the file of a topology: an existing path, or a name in ``./topologies`` or the project's own.

    :raises LabError: when there is no such file; the message lists the known names.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if "/" in name_or_path or path.suffix in (".yaml", ".yml"):
        raise LabError(f"there is no topology file {name_or_path}")
    known: dict[str, Path] = {}
    for folder in (Path("topologies"), Path(__file__).parents[2] / "topologies"):
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            known.setdefault(file.stem, file)
    if name_or_path in known:
        return known[name_or_path]
    message = unknown("topology", name_or_path, sorted(known))
    raise LabError(message, "give one of these names or the path of a file")


def load(path: Path, release: str | None = None) -> Topology:
    """Return the topology of a file.

    :param release: take this release instead of the file's.
    :raises TopologyError: with every problem of the file, or why it cannot be read.
    :raises LabError: there is no such release.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TopologyError([Problem(str(path), 1, 1, "", f"cannot be read: {reason}")]) from error
    return parse(decode(data, str(path)), str(path), release)


def parse(text: str, name: str, release: str | None = None) -> Topology:
    """Return the topology of a text; ``name`` stands for the file in messages.

    Where the shape is wrong only in places that no rule looks at, the rules are checked as well, so that
    the list is complete. Otherwise (a mistyped component, say) rules would complain of its consequences.

    :raises TopologyError: with every problem of the text.
    """
    document = read(text, name)
    problems = list(document.problems)
    values = document.values
    topology, errors = _validate(values)
    if topology is None:
        explained = [_explain(error, document) for error in errors if not _said(error, document)]
        problems += dict.fromkeys(explained)  # both ends of a pool can be wrong in one text
        pruned = _prune(values, [_path(e) for e in errors], [_path(e) for e in errors if _is_unknown_key(e)])
        if pruned is not None:
            topology, _ = _validate(pruned)
    if topology is not None and release is not None:
        topology = with_release(topology, release)
    if topology is not None:
        problems += check(topology, document.positions)
    if problems or topology is None:
        raise TopologyError(problems)
    return topology


def _validate(values: dict[str, Any]) -> tuple[Topology | None, list[ErrorDetails]]:
    # Strict JSON is the mode that means what YAML writers mean: "4" and true are no numbers, but
    # addresses and enumerations are written as text.
    try:
        return Topology.model_validate_json(json.dumps(values), strict=True), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _prune(values: dict[str, Any], wrong: list[ValuePath], unknown_keys: list[ValuePath]) -> dict[str, Any] | None:
    """Return the values without the wrong ones, or None when their absence would mean something."""
    pruned: dict[str, Any] = json.loads(json.dumps(values))
    for path in wrong:
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


def _path(error: ErrorDetails) -> ValuePath:
    return tuple(part for part in error["loc"] if part != "[key]")


def _said(error: ErrorDetails, document: Document) -> bool:
    path = _path(error)
    return any(path[:n] in document.blamed for n in range(len(path) + 1))


def _explain(error: ErrorDetails, document: Document) -> Problem:
    positions = document.positions
    path = _path(error)
    if error["type"] == "extra_forbidden":
        model = _model(path[:-1])
        known = model.model_fields if model else ()
        return positions.problem(path, unknown("key", str(path[-1]), known), key=True)
    if error["type"] == "missing":
        return positions.problem(path, _missing(path))
    while path not in positions:  # a short form (disks, pool) has no inner places
        path = path[:-1]
    if error["loc"][-1] == "[key]":
        return positions.problem(path, _bad_text(error, str(path[-1]), show=True), key=True)
    return positions.problem(path, _wrong(error, path, document))


def _missing(path: ValuePath) -> str:
    model = _model(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    meaning = f": {field.description}" if field and field.description else ""
    return f"the key {path[-1]!r} is missing{meaning}"


def _wrong(error: ErrorDetails, path: ValuePath, document: Document) -> str:
    kind = error["type"]
    context = error.get("ctx", {})
    written = document.written.get(path, Written("nothing"))
    secret = path[:1] == ("passwords",)
    found = _found(written, secret)
    types = set(_leaves(_annotation(_path(error))))
    if IPv4Network in types and kind in ("value_error", "string_type"):
        return _bad_network(written, found)
    if IPv4Address in types and kind in ("value_error", "string_type"):
        if path != _path(error):
            return f"a range of addresses is meant, written like 203.0.113.101-203.0.113.250; found {found}"
        none = ", or none for no address" if path[:1] == ("nodes",) else ""
        return f"an IPv4 address is meant, written like 10.0.0.11{none}; found {found}"
    if kind == "enum":
        word = "component" if Component in types else "role" if NetworkRole in types else "word"
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        if written.text:
            return unknown(word, written.text, known)
        return f"a {word} is meant ({', '.join(known)}), found {found}"
    if kind == "string_type":
        if written.kind in ("number", "boolean") or (written.kind == "nothing" and written.text):
            quote = "quote it" if secret else f"quote it: '{shorten(written.text)}'"
            return f"YAML reads {found}, and text is meant; {quote}"
        return f"text is meant, found {found}"
    if kind in ("string_pattern_mismatch", "string_too_long", "string_too_short"):
        return _bad_text(error, written.text, show=not secret)
    if kind == "value_error":
        return str(context["error"])
    limits = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}
    if kind in limits:
        limit = next(iter(context.values()))
        return f"{limits[kind]} {limit} is meant, found {found}"
    if kind == "too_short":
        return "must not be empty"
    meant = {
        "int_type": "a whole number",
        "bool_type": "true or false",
        "tuple_type": "a list ([one, two], or a line with '- ' for each)",
        "model_type": "a mapping of keys",
        "dict_type": "a mapping of keys",
        "mapping_type": "a mapping of keys",
    }
    return f"{meant.get(kind, error['msg'])} is meant, found {found}"


def _found(written: Written, secret: bool) -> str:
    if written.kind in ("list", "mapping"):
        return f"a {written.kind}"
    if written.kind == "nothing":
        return "nothing" + (f" ({written.text})" if written.text else "")
    if secret:
        return f"a {written.kind}" if written.kind != "text" else "text"
    shown = shorten(written.text)
    return f"the text {shown!r}" if written.kind == "text" else f"{shown} as a {written.kind}"


def _bad_network(written: Written, found: str) -> str:
    try:
        meant = IPv4Network(written.text, strict=False)
    except ValueError:
        return f"a network is meant, written like 10.0.0.0/24; found {found}"
    return f"{written.text} is an address inside a network; did you mean {meant}?"


def _bad_text(error: ErrorDetails, text: str, *, show: bool) -> str:
    shown = repr(shorten(text)) if show else "this"
    if error["type"] == "string_too_long":
        return f"{shown} is too long: at most {error['ctx']['max_length']} characters"
    return f"{shown} is not a name: {_NAME_RULE}"


def _annotation(path: ValuePath) -> Any:
    """Return the model's type of the value at a path, or None where the model ends."""
    current: Any = Topology
    for part in path:
        model = _as_model(current)
        mapping = next((t for t in _members(current) if get_origin(t) is Mapping), None)
        sequence = next((t for t in _members(current) if get_origin(t) is tuple), None)
        if model is not None:
            field = model.model_fields.get(str(part))
            current = field.annotation if field else None
        elif mapping is not None:
            current = get_args(mapping)[1]
        elif sequence is not None:
            current = get_args(sequence)[0]
        else:
            return None
    return current


def _members(annotation: Any) -> list[Any]:
    """Return what an annotation can be, without Annotated and Optional."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation]


def _leaves(annotation: Any) -> list[Any]:
    return [member for member in _members(annotation) if isinstance(member, type)]


def _as_model(annotation: Any) -> type[BaseModel] | None:
    return next((t for t in _leaves(annotation) if issubclass(t, BaseModel)), None)


def _model(path: ValuePath) -> type[BaseModel] | None:
    return _as_model(_annotation(path))
