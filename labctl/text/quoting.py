"""Text inside other languages: one function for each that labctl writes by hand.

YAML, JSON, XML and HTML are written by libraries that quote by themselves.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from urllib.parse import quote

#: A backslash before ``$`` is oslo.config's other way of writing ``$$``.
_DOLLAR = re.compile(r"(\\?)\$")


def sh(text: str) -> str:
    """One word of sh."""
    return shlex.quote(text)


def within_quotes(text: str) -> str:
    """Text between the single quotes of a word of sh."""
    return text.replace("'", "'\"'\"'")


def sql(text: str) -> str:
    """Text between the single quotes of MariaDB's SQL."""
    return text.replace("\\", "\\\\").replace("'", "''")


def url(text: str) -> str:
    """A part of a URL, of SQLAlchemy and oslo.messaging as well."""
    return quote(text, safe="")


def oslo(text: str) -> str:
    """A value of a file that oslo.config reads: it replaces ``$NAME`` and strips quotes and blanks."""
    doubled = _DOLLAR.sub(lambda found: r"\\$" if found[1] else "$$", text)
    ends = {doubled[:1], doubled[-1:]}
    return f'"{doubled}"' if ends & {"'", '"', " "} else doubled


def document(text: str, word: str = "END OF FILE") -> str:
    """A here-document of sh with this text: what follows a command, with an end that is none of its lines."""
    lines = set(text.split("\n"))
    while word in lines:
        word += " OF ALL"
    return f"<<{sh(word)}\n{text if text.endswith(chr(10)) or not text else text + chr(10)}{word}"


#: What a secret's mark can name: the language in which its value is written.
LANGUAGES: Mapping[str, Callable[[str], str]] = {
    "sh": sh,
    "quotes": within_quotes,
    "sql": sql,
    "url": url,
    "oslo": oslo,
}
