"""Files of web servers and of S3, by fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.callbacks import Callback

from labctl.artefacts.place import BLOCK, CONNECT, SILENCE, SLOWEST, Place, Sent, Stat, WholeOnlyError
from labctl.host import proxy

#: Bytes of a part of an upload to S3, two of which are in memory (at most 10 000 parts; s3fs makes them larger).
_PART = 32 * 2**20
#: Seconds for an upload to a web server.
_UPLOAD = 7200.0


def open_place(url: str) -> Place:
    """The place that a URL names.

    :raises ImportError: fsspec's library for it is not installed.
    """
    return _S3(url) if urlsplit(url).scheme.lower() == "s3" else _Web(url)


class _Telling(Callback):  # type: ignore[misc]
    """fsspec's callback for progress."""

    def __init__(self, sent: Sent) -> None:
        super().__init__()
        self._sent = sent

    def relative_update(self, inc: int = 1) -> None:
        self._sent(inc)


class _S3:
    """An object in S3, or in anything that speaks it."""

    def __init__(self, url: str) -> None:
        self._files = fsspec.filesystem(
            "s3",
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": CONNECT,
                "read_timeout": SILENCE,
                "retries": {"max_attempts": 1},
                # servers other than AWS need not know botocore's newer checksums, and an archive has its own
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )
        self._path = self._files._strip_protocol(url)

    def stat(self) -> Stat:
        # not by HEAD: Swift 2.30.1 ends its answer for an object that is not there with a chunk, which aiohttp takes
        # for the beginning of the next answer
        bucket, key, _ = self._files.split_path(self._path)
        found = self._files.call_s3("get_object", Bucket=bucket, Key=key, Range="bytes=0-0")
        found["Body"].close()
        return Stat(int(found["ContentRange"].rpartition("/")[2]), found.get("ETag", ""))

    def blocks(self, start: int, stat: Stat) -> Iterator[bytes]:
        with self._files.open(self._path, "rb", block_size=BLOCK, cache_type="none") as source:
            source.seek(start)
            while data := source.read(BLOCK):
                yield data

    def stream(self, seconds: float) -> Iterator[bytes]:
        return self.blocks(0, self.stat())

    def put(self, path: Path, sent: Sent) -> int:
        self._files.put_file(str(path), self._path, callback=_Telling(sent), chunksize=_PART, max_concurrency=2)
        return 0

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path)


class _Web:
    """A file of a web server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._files = self._within(SLOWEST)

    def _within(self, seconds: float) -> Any:
        """A file system whose requests end in time: fsspec takes a ``timeout`` of a single call for its own."""
        import aiohttp

        through = proxy.url()
        return fsspec.filesystem(
            urlsplit(self._url).scheme.lower(),
            use_listings_cache=False,
            skip_instance_cache=True,
            client_kwargs={"trust_env": True},
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT, sock_read=SILENCE),
            **({"proxy": through} if through else {}),
        )

    def stat(self) -> Stat:
        found = self._files.info(self._url)
        version = found.get("ETag") or found.get("Last-Modified") or ""
        return Stat(found["size"], version)

    def _asked(self, stat: Stat | None) -> dict[str, Any]:
        """Headers of a request: the file's own bytes, and of this version if its name is a strong one (RFC 9110)."""
        own = {**self._files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        return {**own, "If-Match": stat.version} if stat and stat.version.startswith('"') else own

    def blocks(self, start: int, stat: Stat) -> Iterator[bytes]:
        if not stat.size:
            raise WholeOnlyError
        try:
            with self._files.open(
                self._url, "rb", block_size=BLOCK, cache_type="none", size=stat.size, headers=self._asked(stat)
            ) as source:
                source.seek(start)
                while data := source.read(min(BLOCK, stat.size - source.tell())):
                    yield data
        except ValueError as error:  # fsspec's word for an answer that is not the range
            raise WholeOnlyError from error

    def stream(self, seconds: float) -> Iterator[bytes]:
        with self._within(seconds).open(self._url, "rb", block_size=0, headers=self._asked(None)) as source:
            while data := source.read(BLOCK):
                yield data

    def put(self, path: Path, sent: Sent) -> int:
        self._within(_UPLOAD).put_file(str(path), self._url, callback=_Telling(sent), method="put")
        return 0

    def remove(self) -> None:
        """Nothing: a web server that takes files need not let them be removed."""
