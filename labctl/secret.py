"""Secrets: a plan holds only their names, and a value never shows itself.

In a plan a secret is a mark, ``@@GLANCE_PASS@@``. The engine puts the values in when it uploads a
program to a node; everything that is printed, stored or shown puts ``***`` (or, in a guide, the name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MARK = re.compile(r"@@([A-Z][A-Z0-9_]*)@@")


def mark(name: str) -> str:
    """Return the mark that stands for a secret in a plan."""
    return f"@@{name}@@"


class Secret:
    """A value that prints as ``***``; only :meth:`reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def reveal(text: str, secrets: Mapping[str, Secret]) -> str:
    """Put the values in place of the marks.

    :raises KeyError: when a mark names no secret.
    """
    return MARK.sub(lambda found: secrets[found[1]].reveal(), text)


def hide(text: str) -> str:
    """Put ``***`` in place of the marks."""
    return MARK.sub("***", text)


def names(text: str) -> set[str]:
    """Return the names of the secrets a text refers to."""
    return set(MARK.findall(text))


def redact(text: str, secrets: Mapping[str, Secret]) -> str:
    """Put ``***`` in place of every secret's value, for output that came from a node."""
    for value in sorted({s.reveal() for s in secrets.values()}, key=len, reverse=True):
        if len(value) >= 6:
            text = text.replace(value, "***")
    return text
