"""The proxy of downloads: a lab's, while that lab's images are built, else $LABCTL_PROXY.

No address of a lab is ever asked through it: it is given to single downloads, and to the package managers of nodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.errors import LabError
from labctl.topology import proxy

VARIABLE = "LABCTL_PROXY"
#: Of the lab that this process brings up; a list, as threads of a build read it.
_of_lab: list[str] = []


def of_machine() -> str:
    """What the variable says; empty without one.

    :raises LabError: it is no proxy's URL.
    """
    given = os.environ.get(VARIABLE, "")
    if given and not proxy.valid(given):
        # it may hold a password
        raise LabError(f"{VARIABLE} is not the URL of a proxy", proxy.LIKE)
    return given


def url() -> str:
    """The proxy of a download; empty without one."""
    return _of_lab[-1] if _of_lab else of_machine()


@contextmanager
def of_lab(given: str) -> Iterator[None]:
    """Download through a lab's proxy, if it has one."""
    if not given:
        yield
        return
    _of_lab.append(given)
    try:
        yield
    finally:
        _of_lab.remove(given)


def for_requests() -> dict[str, str]:
    """The proxies of a request; empty: those of the environment."""
    through = url()
    return {"http": through, "https": through} if through else {}


def variables() -> dict[str, str]:
    """The environment of a program that downloads; pip prefers its own variable to its files."""
    through = url()
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_PROXY")
    return dict.fromkeys(names, through) if through else {}


def without_password() -> str:
    """The proxy for what is kept in an image.

    :raises LabError: it has a password.
    """
    through = url()
    if through and proxy.split(through)[1]:
        raise LabError(
            "an installer keeps its answers in the image, so its proxy must have no password",
            f"{VARIABLE}=http://HOST:PORT of one that asks for none",
        )
    return through.rstrip("/")
