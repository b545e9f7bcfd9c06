"""The YAML layer: text to plain values, with the position of each key and value.

YAML 1.1 reads more into unquoted words than people mean (``on`` is a boolean, ``0.5`` a number, ``12:30`` a
number in base 60), so values keep their original text and ``load`` can say what to quote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser

from labctl.topology.problems import Path, Place, Positions, Problem, TopologyError, shorten

#: Maximum size of a topology file in bytes. A lab of a hundred nodes is about 60 KiB.
MAX_FILE = 2**20
#: Maximum nesting depth; the model itself has five levels.
MAX_DEPTH = 24
# A value weighs this much plus its text, and more each time that an alias repeats it: the limit stops nested aliases,
# and a file of nothing but values, before memory runs out. A lab of ten thousand nodes weighs five MiB.
_VALUE_WEIGHT, _REPEATED = 64, 4
_MAX_WEIGHT = 8 * 2**20
# int() and float() fail or overflow on longer numbers; no size or count needs them.
_MAX_DIGITS = 100

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + "str", _TAG + "timestamp", _TAG + "value", _TAG + "merge"}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
#: What libyaml's reader refuses: control characters, surrogates, a byte order mark inside.
_NOT_YAML = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_KINDS = {
    _TAG + "int": "number",
    _TAG + "float": "number",
    _TAG + "bool": "boolean",
    _TAG + "null": "nothing",
}


@dataclass(frozen=True)
class Written:
    """How a value was written: ``kind`` is text, number, boolean, nothing, list or mapping."""

    kind: str
    text: str = ""


@dataclass
class Document:
    """A YAML file as plain values (what JSON can hold), with the original text and position of each.

    ``blamed`` holds paths whose own value already has a problem, so nothing is reported twice.
    """

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    written: dict[Path, Written] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    value_places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    blamed: set[Path] = field(default_factory=set)

    @property
    def positions(self) -> Positions:
        """The positions of all keys and values."""
        return Positions(self.file, self.key_places, self.value_places)


def decode(data: bytes, name: str) -> str:
    """Return the text of a topology file.

    :raises TopologyError: when it is larger than 1 MiB or is not UTF-8.
    """
    _check_size(len(data), name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        start = before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8", "replace")) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise TopologyError([Problem(name, before.count(b"\n") + 1, column, "", message)]) from None


def read(
    text: str, name: str, kind: str = "topology", keys: tuple[str, ...] = ("name", "release", "bases")
) -> Document:
    """Read one YAML document with a mapping at the top.

    :param kind: kind of file, for messages; ``keys`` are its first keys.

    Recoverable problems (a duplicate key, an odd number) are recorded in the document.

    :raises TopologyError: when nothing can be read: syntax, size, empty file, several documents.
    """
    _check_size(len(text.encode("utf-8", "surrogatepass")), name)
    tabs = _indenting_tabs(text, name)
    if tabs:
        raise TopologyError(tabs)
    root = _compose(text, name)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _TAG + "null"):
        written = ", ".join(f"{key}:" for key in keys)
        raise TopologyError([Problem(name, 1, 1, "", f"the file is empty; write {written}, ...")])
    if not isinstance(root, yaml.MappingNode):
        found = "a list" if isinstance(root, yaml.SequenceNode) else f"the text {shorten(root.value)!r}"
        message = f"a {kind} is a mapping of keys ({', '.join(keys)}, ...), found {found}"
        raise TopologyError([Problem(name, *_place(root.start_mark), "", message)])
    document = Document(name)
    document.values = _Reader(document).visit(root, ())
    return document


def _check_size(size: int, name: str) -> None:
    if size > MAX_FILE:
        message = "the file is larger than 1 MiB; a topology is a few KiB of text"
        raise TopologyError([Problem(name, 1, 1, "", message)])


def _indenting_tabs(text: str, name: str) -> list[Problem]:
    found = []
    for number, line in enumerate(_LINE_BREAK.split(text), start=1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and line.strip():
            found.append(Problem(name, number, indent.index("\t") + 1, "", "found a tab; indent YAML with spaces"))
    return found


class _Loader(yaml.composer.Composer, CParser, yaml.resolver.Resolver):
    """libyaml's parser, ten times as fast as PyYAML's, with PyYAML's composer and a depth limit."""

    depth = 0

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.Resolver.__init__(self)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", _next_mark(self))
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _next_mark(loader: Any) -> yaml.Mark:
    mark: yaml.Mark = loader.peek_event().start_mark
    return mark


def _compose(text: str, name: str) -> yaml.Node | None:
    if odd := _NOT_YAML.search(text):
        lines = _LINE_BREAK.split(text[: odd.start()])
        message = f"character {odd[0]!r} is not allowed in YAML"
        raise TopologyError([Problem(name, len(lines), len(lines[-1]) + 1, "", message)])
    loader = _Loader(text)
    try:
        root = loader.get_node() if loader.check_node() else None
        if root is not None and loader.check_node():
            place = _place(_next_mark(loader))
            raise TopologyError([Problem(name, *place, "", "a second document begins; a file holds one topology")])
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark else (1, 1)
        raise TopologyError([Problem(name, *place, "", _syntax(error))]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise TopologyError([Problem(name, 1, 1, "", f"not YAML: {error}")]) from None
    return root


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "").strip()
    if "'\\t'" in problem:
        return "found a tab; indent YAML with spaces"
    if "mapping values are not allowed" in problem:
        problem += "; quote text that contains ': '"
    return f"not YAML: {problem}" + (f" ({error.context.strip()})" if error.context else "")


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1


class _Reader:
    """Converts composed nodes to values and fills the document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.weight = 0
        self.seen: set[int] = set()
        self.open: set[int] = set()

    def visit(self, node: yaml.Node, path: Path) -> Any:
        """Return the value of a node and record its position."""
        self._limit(node)
        # A block mapping starts at its first key, one line below the key it belongs to.
        place = _place(node.start_mark)
        own = place if isinstance(node, yaml.ScalarNode) else self.document.key_places.get(path, place)
        self.document.value_places[path] = own
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self.open:
            self._blame(path, "an alias that contains itself")
            return None
        self.open.add(id(node))
        value: Any = None
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            self.document.written[path] = Written("mapping")
            value = self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            self.document.written[path] = Written("list")
            value = [self.visit(item, (*path, i)) for i, item in enumerate(node.value)]
        else:
            self._refuse_tag(node, path)
        self.open.discard(id(node))
        return value

    def _limit(self, node: yaml.Node) -> None:
        weight = _VALUE_WEIGHT + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        self.weight += weight * (_REPEATED if id(node) in self.seen else 1)
        self.seen.add(id(node))
        too_much = self.weight > _MAX_WEIGHT
        # Aliases can nest deeper than the text does.
        if too_much or len(self.open) > MAX_DEPTH:
            message = "too many values, or too much that aliases (*name) repeat; write less"
            raise TopologyError([Problem(self.document.file, *_place(node.start_mark), "", message)])

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                place = _place(key_node.start_mark)
                where = self.document.positions.problem(path, "").path
                self.document.problems.append(
                    Problem(self.document.file, *place, where, "a key must be a word, found a list or mapping")
                )
                continue
            key: str = key_node.value
            below = (*path, key)
            if key in result:
                first = self.document.key_places[below][0]
                message = f"duplicate key {shorten(key)!r}, first on line {first}"
                place = _place(key_node.start_mark)
                shown = self.document.positions.problem(below, message)
                self.document.problems.append(Problem(shown.file, *place, shown.path, message))
                continue
            self.document.key_places[below] = _place(key_node.start_mark)
            self._check_key(key_node, below)
            value = self.visit(value_node, below)
            result[key] = value
        return result

    def _check_key(self, node: yaml.ScalarNode, path: Path) -> None:
        if node.tag == _TAG + "merge":
            message = "merge keys are not supported; give the whole value an alias, or repeat the keys"
            self._blame(path, message, True)
        elif node.tag in _KINDS:
            shown = shorten(node.value)
            self._blame(path, f"YAML reads the key {shown} as a {_KINDS[node.tag]}; quote it: {shown!r}", True)
        elif node.tag not in _TEXT_TAGS:
            self._refuse_tag(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text: str = node.value
        self.document.written[path] = Written(_KINDS.get(node.tag, "text"), text)
        if re.search(rf"[\d_]{{{_MAX_DIGITS}}}", text):
            self._blame(path, f"more than {_MAX_DIGITS} digits in a row; nothing in a lab is that large")
            return None
        if node.tag in _TEXT_TAGS:
            return text
        if node.tag == _TAG + "null":
            return None
        if node.tag == _TAG + "bool":
            return text.lower() in ("yes", "true", "on")
        if node.tag == _TAG + "float":
            # only a release has such a number; of any other field only the text matters
            return float(text) if re.fullmatch(r"\d{4}\.\d", text) else 0.5
        if node.tag == _TAG + "int":
            if _DECIMAL.fullmatch(text):
                return int(text)
            self._blame(path, _odd_number(text))
            return None
        self._refuse_tag(node, path)
        return None

    def _refuse_tag(self, node: yaml.Node, path: Path) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._blame(path, f"the YAML tag {shorten(tag)} is not supported; write a plain value")

    def _blame(self, path: Path, message: str, key: bool = False) -> None:
        self.document.blamed.add(path)
        self.document.problems.append(self.document.positions.problem(path, message, key=key))


def _odd_number(text: str) -> str:
    if ":" in text:
        reading = "a number in base 60"
    elif text.lstrip("+-").lower().startswith("0x"):
        reading = "a number in base 16"
    elif text.lstrip("+-").lower().startswith("0b"):
        reading = "a number in base 2"
    elif text.lstrip("+-").startswith("0"):
        reading = "a number in base 8"
    else:
        reading = "a number"
    shown = shorten(text)
    return f"YAML reads {shown} as {reading}; quote it if it is text ({shown!r}), else write plain decimal"
