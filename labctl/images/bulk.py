"""Parallel download of many small files from one mirror.

apt downloads files one by one over one connection; with 950 packages that is mostly waiting. Files are checked by
the size and SHA-256 in apt's verified index. Files that fail here are left to apt, which knows the host's
credentials, resumes partial files, retries, and reports errors.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from labctl.host import files, process, proxy
from labctl.progress import Meter
from labctl.topology.units import show_size

#: Parallel connections; more would be unfriendly to the mirror.
CONNECTIONS = 8
#: Seconds to connect, and without data.
TIMEOUT = (10, 30)
CHUNK = 2**18
#: A line of ``apt-get --print-uris``.
_LINE = re.compile(r"^'(?P<url>https?://[^']+)' (?P<name>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")
_PROXY = re.compile(r'^Acquire::(?P<scheme>https?)::Proxy "(?P<proxy>[^"]+)";$', re.MULTILINE)


@dataclass(frozen=True)
class Wanted:
    """A file of a mirror."""

    url: str
    name: str
    size: int
    sha256: str


def wanted(uris: str) -> list[Wanted]:
    """Files named by ``apt-get --print-uris`` that have a SHA-256 and an HTTP URL."""
    found = (_LINE.match(line) for line in uris.splitlines())
    return [Wanted(m["url"], m["name"], int(m["size"]), m["sha256"]) for m in found if m]


def proxies() -> dict[str, str]:
    """labctl's proxy, else apt's configured ones."""
    if own := proxy.for_requests():
        return own
    said = process.run(["apt-config", "dump"], check=False).stdout
    return {m["scheme"]: m["proxy"] for m in _PROXY.finditer(said) if m["proxy"].upper() != "DIRECT"}


def bring(files: Sequence[Wanted], directory: Path, meter: Meter) -> int:
    """Download files into a directory in parallel, each atomically; returns how many succeeded.

    After the first failure no more downloads are started.

    :param directory: for complete files; incomplete ones are in its ``partial``.
    """
    total = sum(f.size for f in files) or 1
    lock, failed = threading.Lock(), threading.Event()
    came = {"files": 0, "bytes": 0}
    through, own = proxies(), threading.local()

    def fetch(file: Wanted) -> None:
        if failed.is_set():
            return
        try:
            if not hasattr(own, "session"):
                own.session = requests.Session()
                own.session.proxies = through
            _receive(own.session, file, directory)
        except (requests.RequestException, OSError, ValueError):
            failed.set()
            return
        with lock:
            came["files"] += 1
            came["bytes"] += file.size
            meter(
                f"{show_size(came['bytes'])} of {show_size(total)}, {file.name.partition('_')[0]}",
                came["bytes"] / total,
            )

    # largest first, so that none is left to wait for at the end
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fetch, sorted(files, key=lambda f: -f.size)))
    return came["files"]


def _receive(session: requests.Session, file: Wanted, directory: Path) -> None:
    partial = directory / "partial" / file.name
    found, size = hashlib.sha256(), 0
    with session.get(file.url, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        files.erase(partial)
        with files.appended(partial, 0o644) as sink:
            for chunk in response.iter_content(CHUNK):
                sink.write(chunk)
                found.update(chunk)
                size += len(chunk)
    if size != file.size or found.hexdigest() != file.sha256:
        files.erase(partial)
        raise ValueError(f"{file.url} does not match the index")
    files.move(partial, directory / file.name)
