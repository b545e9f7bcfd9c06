"""Entering a lab whose namespace is not there says which lab's, and what brings it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import BrokenLabError
from labctl.host import namespace

NAMESPACE, HOSTS = "labctl.no-such-lab", Path("/etc/netns/labctl.no-such-lab/hosts")


def asked() -> None:
    with namespace.Inside(NAMESPACE, HOSTS) as inside:
        inside.call(print)


def asked_twice() -> None:
    with namespace.Inside(NAMESPACE, HOSTS, threads=2) as inside:
        with pytest.raises(BrokenLabError):
            inside.call(print)
        inside.map(print, [1, 2])


WAYS = [
    asked,
    asked_twice,
    lambda: namespace.connect(NAMESPACE, "10.0.0.1", 22, 1),
    lambda: namespace.enter(NAMESPACE, HOSTS),
]


@pytest.mark.parametrize("way", WAYS, ids=["a call", "calls", "a connection", "a process"])
def test_a_missing_namespace_is_the_labs_trouble_and_no_bug(way: Callable[[], None]) -> None:
    with pytest.raises(BrokenLabError, match="the network namespace of the lab no-such-lab does not exist") as raised:
        way()
    assert raised.value.hint == "labctl repair no-such-lab"
