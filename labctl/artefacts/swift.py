"""Objects in Swift, by openstacksdk: ``swift://CONTAINER/OBJECT`` in the account of the chosen cloud.

A large file is a static large object: segments in ``CONTAINER_segments``, each named by its content, and a manifest,
which makes the object whole or leaves the one before
(https://docs.openstack.org/swift/latest/overview_large_objects.html). An upload that was cut off finds its segments.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import openstack
from openstack import exceptions

from labctl.artefacts.place import CONNECT, SILENCE, Place, Sent, Stat

#: Bytes of a segment, at least; a manifest has at most a thousand.
_SEGMENT, _MOST = 64 * 2**20, 1000
_PIECE = 2**16


def open_place(url: str) -> Place:
    """The place that a URL names."""
    parts = urlsplit(url)
    return _Object(unquote(parts.netloc), unquote(parts.path.strip("/")))


class _Object:
    """An object in Swift."""

    def __init__(self, container: str, name: str) -> None:
        self._container = container
        self._name = name

    @cached_property
    def _store(self) -> Any:
        return openstack.connect().object_store

    def _path(self, name: str, container: str = "") -> str:
        return f"/{quote(container or self._container)}/{quote(name)}"

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        answer = self._store.request(path, method, timeout=(CONNECT, SILENCE), **how)
        exceptions.raise_from_response(answer)
        return answer

    def stat(self) -> Stat:
        headers: Mapping[str, str] = self._ask("HEAD", self._path(self._name)).headers
        return Stat(int(headers["Content-Length"]), headers.get("Etag", ""))

    def blocks(self, start: int, stat: Stat) -> Iterator[bytes]:
        if start == stat.size:
            return
        only = {"If-Match": stat.version} if stat.version else {}
        yield from self._read({**only, "Range": f"bytes={start}-"})

    def stream(self, seconds: float) -> Iterator[bytes]:
        yield from self._read({})

    def _read(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        with self._ask("GET", self._path(self._name), headers=headers, stream=True) as answer:
            yield from answer.iter_content(_PIECE)

    def put(self, path: Path, sent: Sent) -> int:
        size = path.stat().st_size
        self._ask("PUT", f"/{quote(self._segments)}")
        known, went_on = self._known(), 0
        manifest: list[dict[str, Any]] = []
        for data in _pieces(path, max(_SEGMENT, -(-size // _MOST))):
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            segment = f"{self._name}/{digest}"
            if segment in known:
                went_on += len(data)
            else:
                self._ask("PUT", self._path(segment, self._segments), data=data, headers={"ETag": digest})
            manifest.append({"path": f"/{self._segments}/{segment}", "etag": digest, "size_bytes": len(data)})
            sent(len(data))
        self._ask("PUT", f"{self._path(self._name)}?multipart-manifest=put", data=json.dumps(manifest))
        for segment in known - {f"{self._name}/{item['etag']}" for item in manifest}:
            self._delete(self._path(segment, self._segments))
        return went_on

    @property
    def _segments(self) -> str:
        return f"{self._container}_segments"

    def _known(self) -> set[str]:
        """The object's segments; those of an object whose name begins with this one's are not."""
        asked = f"/{quote(self._segments)}?format=json&prefix={quote(self._name, safe='')}/"
        names = {item["name"] for item in self._ask("GET", asked).json()}
        return {name for name in names if re.fullmatch(r"[0-9a-f]{32}", name.removeprefix(f"{self._name}/"))}

    def _delete(self, path: str) -> None:
        answer = self._store.request(path, "DELETE", timeout=(CONNECT, SILENCE))
        if answer.status_code != 404:
            exceptions.raise_from_response(answer)

    def remove(self) -> None:
        self._delete(self._path(self._name))


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        while data := source.read(size):
            yield data
