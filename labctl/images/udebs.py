"""Checks that a mirror has all components that Debian's installer downloads while it runs.

A caching mirror may have packages but no installer components; the installer notices only after minutes, and does
not say what is missing (debian-installer: anna).
"""

from __future__ import annotations

import email
import lzma
from concurrent.futures import ThreadPoolExecutor

import requests

from labctl.errors import LabError
from labctl.host import proxy
from labctl.images import retry

INDEX = "dists/{suite}/main/debian-installer/binary-{architecture}/Packages.xz"
#: Seconds for each response.
TIMEOUT = 20
AT_ONCE = 8


def components(mirror: str, suite: str, architecture: str = "amd64") -> list[str]:
    """Paths on the mirror of the components that every installation loads (priority "standard").

    :raises LabError: the mirror has no index of them.
    """
    url = f"{mirror}/{INDEX.format(suite=suite, architecture=architecture)}"

    def read() -> str:
        try:
            answer = requests.get(url, timeout=TIMEOUT, proxies=proxy.for_requests())
            answer.raise_for_status()
            return lzma.decompress(answer.content).decode()
        except (requests.RequestException, lzma.LZMAError) as error:
            kind = (
                LabError
                if getattr(getattr(error, "response", None), "status_code", 500) < 500
                else retry.MomentaryError
            )
            raise kind(f"the mirror has no index of the installer's components: {url}: {error}") from error

    text = retry.again(read)
    stanzas = (email.message_from_string(stanza) for stanza in text.split("\n\n") if stanza.strip())
    # modules depend on the installer's kernel, and the index has several kernels
    return [s["Filename"] for s in stanzas if s["Priority"] == "standard" and s["Kernel-Version"] is None]


def check(mirror: str, suite: str) -> None:
    """Check every component on the mirror with a HEAD request.

    :raises LabError: some are missing; says how many, and names the first.
    """
    wanted = components(mirror, suite)
    with requests.Session() as session, ThreadPoolExecutor(AT_ONCE) as pool:
        session.proxies = proxy.for_requests()
        refused = [url for url in pool.map(lambda path: _refused(session, f"{mirror}/{path}"), wanted) if url]
    if refused:
        raise LabError(
            f"the mirror lacks {len(refused)} of {len(wanted)} components of the Debian installer, "
            f"without which it stops; the first: {refused[0]}",
            "labctl image build debian12 --installer --mirror URL uses another mirror",
        )


def _refused(session: requests.Session, url: str) -> str | None:
    def ask() -> int:
        try:
            status = session.head(url, timeout=TIMEOUT, allow_redirects=True).status_code
        except requests.RequestException as error:
            raise retry.MomentaryError(f"{url} ({type(error).__name__})") from error
        if status >= 500:
            raise retry.MomentaryError(f"{url} ({status})")
        return status

    try:
        status = retry.again(ask)
    except retry.MomentaryError as error:
        return error.message
    return None if status == 200 else f"{url} ({status})"
