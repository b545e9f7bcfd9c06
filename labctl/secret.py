"""Secrets: a plan holds only their names; values are never printed.

In a plan a secret is a mark: its name and the languages that the value is written in, innermost first, between two
control characters, which no field of a topology can have. The engine substitutes the values when it uploads a
program to a node; everything printed, stored or shown has ``***`` (or, in a guide, the name) instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from labctl.text.quoting import LANGUAGES

HIDDEN = "***"
#: Minimum length of a value that is assumed not to occur inside other words.
WORD = 6
_VALUE = r"""["']?\s*[:=]\s*["']?)[^\s"',}]+"""
#: What labctl cannot know: tokens, and passwords that services generate or a node's own files contain.
#: The first group is kept.
_LOOKS_SECRET = (
    re.compile(r"()gAAAAA[A-Za-z0-9_=-]{30,}"),  # fernet tokens
    re.compile(r"(://)[^\s:/@]+:[^\s/@]+(?=@)"),  # credentials in URLs
    re.compile(r"(?i)((?:x-auth-token|x-subject-token|admin_token|secret(?:_key)?)" + _VALUE),
    # not the database's "Access denied (using password: YES)"
    re.compile(r"(?i)(passw(?:or)?d(?!: (?:YES|NO)\))" + _VALUE),
    re.compile(r"(PRIVATE KEY-----)[^-]+(?=-----END)"),
)

#: Where pytest truncates a long value in the middle, and the length of a fragment that reveals too much.
_CUT = "..."
_BEGIN, _END = re.compile(r"[\w-]+\Z"), re.compile(r"[\w-]+")
_TELLS = 5

MARK = re.compile("\x02([A-Z][A-Z0-9_]*)((?::[a-z]+)*)\x03")


def mark(name: str, *languages: str) -> str:
    """Return the mark that stands for a secret in a plan, written in these languages."""
    return f"\x02{':'.join((name, *languages))}\x03"


def within(text: str, language: str) -> str:
    """Text with each mark written in one more language."""
    if "\x02" not in text:  # most options of most files
        return text
    return MARK.sub(lambda found: mark(found[1] + found[2], language), text)


def unwritten(text: str) -> str:
    """Text with each mark as a name without languages, for hashes: they say what changed, not how it is written."""
    return MARK.sub(lambda found: f"@@{found[1]}@@", text)


class Secret:
    """A value that prints as ``***``; only :meth:`reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return HIDDEN

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def reveal(text: str, secrets: Mapping[str, Secret]) -> str:
    """Replace marks with their values.

    :raises KeyError: when a mark names no secret.
    """

    def value(found: re.Match[str]) -> str:
        written = secrets[found[1]].reveal()
        for language in found[2].split(":")[1:]:
            written = LANGUAGES[language](written)
        return written

    return MARK.sub(value, text)


def hide(text: str) -> str:
    """Replace marks with ``***``."""
    return MARK.sub(HIDDEN, text)


def names(text: str) -> set[str]:
    """Return the names of the secrets a text refers to."""
    return {name for name, _ in MARK.findall(text)}


def redact(text: str, secrets: Mapping[str, Secret]) -> str:
    """Replace every secret's value with ``***``, for output from a node."""
    return Redactor((s.reveal() for s in secrets.values()), guess=False)(text)


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


class Redactor:
    """Replaces secrets with ``***``: the values it is given and, with ``guess``, what looks like one.

    Values written in another language are found too. A value shorter than WORD characters, which only a topology can
    choose, occurs in many words, so it is hidden only where it stands alone (or after a client's -p).
    """

    def __init__(self, values: Iterable[str], guess: bool = True) -> None:
        known = {value for value in values if value}
        known |= {write(value) for value in known for write in (*LANGUAGES.values(), _json)}
        self._values = sorted((v for v in known if len(v) >= WORD), key=len, reverse=True)
        short = "|".join(re.escape(v) for v in sorted(known, key=len, reverse=True) if len(v) < WORD)
        self._short = re.compile(rf"(?:(?<!\w)|(?<=\s-p))(?:{short})(?!\w)") if short else None
        self._patterns = _LOOKS_SECRET if guess else ()

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, HIDDEN)
        if self._short:
            text = self._short.sub(HIDDEN, text)
        text = self._without_rests(text)
        for pattern in self._patterns:
            text = pattern.sub(rf"\1{HIDDEN}", text)
        return text

    def _without_rests(self, text: str) -> str:
        """Hide the remains of truncated values next to ``...``."""
        parts = text.split(_CUT)
        for number in range(len(parts) - 1):
            begin = _BEGIN.search(parts[number][-200:])
            if begin and len(begin[0]) >= _TELLS and any(v.startswith(begin[0]) for v in self._values):
                parts[number] = parts[number].removesuffix(begin[0]) + HIDDEN
            end = _END.match(parts[number + 1])
            if end and len(end[0]) >= _TELLS and any(v.endswith(end[0]) for v in self._values):
                parts[number + 1] = HIDDEN + parts[number + 1].removeprefix(end[0])
        return _CUT.join(parts)
