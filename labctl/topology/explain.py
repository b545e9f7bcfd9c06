"""Validation errors of a file's model, in terms of the file and with positions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from labctl.components import Component
from labctl.topology.document import Document, Written
from labctl.topology.model import NetworkRole
from labctl.topology.problems import Path as ValuePath
from labctl.topology.problems import Problem, shorten, unknown

_NAME_RULE = "lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"


def path_of(error: ErrorDetails) -> ValuePath:
    """Return the path of the value that an error is about."""
    return tuple(part for part in error["loc"] if part != "[key]")


def is_said(error: ErrorDetails, document: Document) -> bool:
    """True when the value of an error, or an enclosing one, already has a problem."""
    path = path_of(error)
    return any(path[:n] in document.blamed for n in range(len(path) + 1))


def explain(error: ErrorDetails, document: Document, root: type[BaseModel]) -> Problem:
    """Return a validation error of ``root`` as a problem in terms of the file, with its position."""
    positions = document.positions
    path = path_of(error)
    if error["type"] == "extra_forbidden":
        model = _model(path[:-1], root)
        known = model.model_fields if model else ()
        return positions.problem(path, unknown("key", str(path[-1]), known), key=True)
    if error["type"] == "missing":
        return positions.problem(path, _missing(path, root))
    while path not in positions:  # a short form (disks, pool) has no inner positions
        path = path[:-1]
    if error["loc"][-1] == "[key]":
        said = error["type"] == "value_error"
        message = str(error["ctx"]["error"]) if said else _bad_text(error, str(path[-1]), show=True)
        return positions.problem(path, message, key=True)
    return positions.problem(path, _wrong(error, path, document, root))


def _missing(path: ValuePath, root: type[BaseModel]) -> str:
    model = _model(path[:-1], root)
    field = model.model_fields.get(str(path[-1])) if model else None
    meaning = f": {field.description}" if field and field.description else ""
    return f"the key {path[-1]!r} is missing{meaning}"


def _wrong(error: ErrorDetails, path: ValuePath, document: Document, root: type[BaseModel]) -> str:
    kind = error["type"]
    context = error.get("ctx", {})
    written = document.written.get(path, Written("nothing"))
    secret = path[:1] == ("passwords",) or path == ("options", "proxy")
    found = _found(written, secret)
    types = set(_leaves(_annotation(path_of(error), root)))
    if IPv4Network in types and kind in ("value_error", "string_type"):
        return _bad_network(written, found)
    if IPv6Network in types and kind in ("value_error", "string_type"):
        return _bad_prefix(written, found)
    if IPv6Address in types and kind in ("value_error", "string_type"):
        return f"expected an IPv6 address like 2001:db8:0:1::1, found {found}"
    if IPv4Address in types and kind in ("value_error", "string_type"):
        if path != path_of(error):
            return f"expected an address range like 203.0.113.101-203.0.113.250, found {found}"
        none = ", or none for no address" if path[:1] == ("nodes",) else ""
        return f"expected an IPv4 address like 10.0.0.11{none}; found {found}"
    if kind == "enum":
        word = "component" if Component in types else "role" if NetworkRole in types else "word"
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        if written.text:
            return unknown(word, written.text, known)
        return f"expected a {word} ({', '.join(known)}), found {found}"
    if kind == "string_type":
        if written.kind in ("number", "boolean") or (written.kind == "nothing" and written.text):
            quote = "quote it" if secret else f"quote it: '{shorten(written.text)}'"
            return f"YAML reads {found}, expected text; {quote}"
        return f"expected text, found {found}"
    if kind in ("string_pattern_mismatch", "string_too_long", "string_too_short"):
        return _bad_text(error, written.text, show=not secret)
    if kind == "value_error":
        return str(context["error"])
    limits = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}
    if kind in limits:
        limit = next(iter(context.values()))
        return f"must be {limits[kind]} {limit}, found {found}"
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
    return f"expected {meant.get(kind, error['msg'])}, found {found}"


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
        return f"expected a network like 10.0.0.0/24, found {found}"
    return f"{written.text} is an address inside a network; did you mean {meant}?"


def _bad_prefix(written: Written, found: str) -> str:
    try:
        meant = IPv6Network(written.text, strict=False)
    except ValueError:
        return f"expected an IPv6 prefix like 2001:db8:0:1::/64, found {found}"
    return f"{written.text} is an address inside a prefix; did you mean {meant}?"


def _bad_text(error: ErrorDetails, text: str, *, show: bool) -> str:
    shown = repr(shorten(text)) if show else "this"
    if error["type"] == "string_too_long":
        return f"{shown} is too long: at most {error['ctx']['max_length']} characters"
    if error["ctx"].get("pattern", "").startswith("^http"):
        return f"{shown} is not a URL: http://HOST/PATH or https://HOST/PATH, without blanks, quotes, '&', '#' and '\\'"
    return f"{shown} is not a name: {_NAME_RULE}"


def _annotation(path: ValuePath, root: type[BaseModel]) -> Any:
    """Return the model's type of the value at a path, or None where the model ends."""
    current: Any = root
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
    """Return the alternatives of an annotation, without Annotated and Optional."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation]


def _leaves(annotation: Any) -> list[Any]:
    return [member for member in _members(annotation) if isinstance(member, type)]


def _as_model(annotation: Any) -> type[BaseModel] | None:
    return next((t for t in _leaves(annotation) if issubclass(t, BaseModel)), None)


def _model(path: ValuePath, root: type[BaseModel]) -> type[BaseModel] | None:
    return _as_model(_annotation(path, root))
