"""Places of archives: what can be done with a URL, and which library does it.

``https``, ``http`` and ``s3`` are fsspec's file systems; ``swift`` is openstacksdk's object store. The libraries are
imported when a URL first needs them, and find credentials where they always do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from labctl.errors import LabError

#: By scheme: the module of labctl.artefacts, and where credentials come from.
SCHEMES = {
    "http": ("files", "a user and password in ~/.netrc, or headers in FSSPEC_HTTP_HEADERS (fsspec's configuration)"),
    "https": ("files", "a user and password in ~/.netrc, or headers in FSSPEC_HTTPS_HEADERS (fsspec's configuration)"),
    "s3": ("files", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or a profile in ~/.aws"),
    "swift": ("swift", "OS_CLOUD names a cloud of clouds.yaml; or the variables OS_AUTH_URL, OS_USERNAME …"),
}
#: Bytes of one read; what is lost when a connection ends.
BLOCK = 4 * 2**20
#: Seconds to connect, and without data.
CONNECT, SILENCE = 10.0, 60.0
#: Seconds for one block: slower than 14 kB/s is taken for a connection that hangs.
SLOWEST = 300.0

#: Called with the number of bytes that were sent since the last call.
Sent = Callable[[int], None]


@dataclass(frozen=True)
class Stat:
    """What a server says of a file: its size in bytes, None if it does not say; and what changes with its content."""

    size: int | None
    version: str


class WholeOnlyError(Exception):
    """The server sends only whole files."""


class Place(Protocol):
    """A file elsewhere. Errors are the libraries' own; :mod:`labctl.artefacts.failure` reads them."""

    def stat(self) -> Stat:
        """Ask for its size and version."""

    def blocks(self, start: int, stat: Stat) -> Iterator[bytes]:
        """Read it from an offset.

        :param stat: the version that was begun.
        :raises WholeOnlyError: the server knows no ranges.
        """

    def stream(self, seconds: float) -> Iterator[bytes]:
        """Read it from its beginning, in one request that ends after so many seconds."""

    def put(self, path: Path, sent: Sent) -> int:
        """Write a file to it; returns the bytes that an earlier upload, which was cut off, had brought there."""

    def remove(self) -> None:
        """Remove it; what does not exist is no error."""


def is_url(text: str) -> bool:
    """Whether a word is a URL rather than a file's path or a snapshot's name."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text))


def local(url: str) -> Path | None:
    """The file on this machine that a URL or a path names; None if it is elsewhere."""
    if not is_url(url):
        return Path(url)
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def hidden(url: str) -> str:
    """A URL without its user, password and query, which may be credentials."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        (parts.scheme, f"***@{host}" if host != parts.netloc else host, parts.path, "***" if parts.query else "", "")
    )


def beside(url: str, suffix: str) -> str:
    """The URL of a file beside it, named like it with a suffix."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + suffix))


def credentials(url: str) -> str:
    """Where the credentials of a URL's library come from, for a hint."""
    return SCHEMES[urlsplit(url).scheme.lower()][1]


def at(url: str) -> Place:
    """The place that a URL names.

    :raises LabError: it is no URL of a file, labctl does not know its scheme, or a library is not installed.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise LabError(f"labctl does not know the scheme of {hidden(url)}; it knows file, {', '.join(sorted(SCHEMES))}")
    if not parts.netloc or not parts.path.strip("/"):
        raise LabError(f"{hidden(url)} names no file", f"{scheme}://WHERE/NAME.tar.zst")
    try:
        made: Place = import_module(f"labctl.artefacts.{SCHEMES[scheme][0]}").open_place(url)
    except ImportError as error:  # fsspec's own has no name, and the one that it was raised from
        raise missing(scheme, error.name or getattr(error.__cause__, "name", None) or "fsspec") from error
    return made


def missing(scheme: str, module: str) -> LabError:
    """The error of a library that is not installed."""
    return LabError(
        f"{scheme}:// needs the Python package {module.partition('.')[0]}, which is not installed",
        f"{sys.executable} -m pip install 'labctl[remote]'",
    )
