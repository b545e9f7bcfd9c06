"""A node joins a real running lab and leaves it: nothing on the other node notices but its /etc/hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SMALL, write
from test_lab import labctl

from labctl.host import network
from labctl.lab.down import remains

NAME = "ci-node"
GROWING = SMALL.replace("    runs: [etcd]\n", "    runs: [etcd]\n    join: later\n")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real lab needs root"),
]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    labctl("down", NAME)
    labctl("up", str(write(tmp_path, GROWING.replace("64 MiB", "256 MiB"))), "--name", NAME, timeout=1500)
    yield NAME
    labctl("down", NAME)
    assert remains(NAME) == []


def on(lab: str, node: str, *words: str) -> str:
    """Run a command on a node."""
    return labctl("ssh", lab, node, "--", *words)


def starts(lab: str) -> str:
    """Which start of each daemon runs now."""
    return on(lab, "first", "systemctl", "show", "-p", "InvocationID", "mariadb", "memcached", "chrony")


def test_a_node_joins_works_and_leaves_without_a_trace(lab: str) -> None:
    before = starts(lab)

    labctl("node", "add", lab, "second")
    assert "http://10.0.0.12:2379" in on(lab, "second", "etcdctl", "--endpoints=http://second:2379", "member", "list")
    assert on(lab, "first", "getent", "hosts", "second").split() == ["10.0.0.12", "second"]
    assert network.inside(lab, ["getent", "hosts", "second"]).split() == ["10.0.0.12", "second"]

    labctl("node", "remove", lab, "second")
    assert [r["state"] for r in json.loads(labctl("node", "list", lab, "-o", "json"))] == ["running", "not added"]
    assert "second" not in on(lab, "first", "cat", "/etc/hosts")
    assert f"namespace {network.node_namespace(lab, 'second')}" not in remains(lab)

    labctl("node", "add", lab, "second")  # as if it had never been there
    assert "http://10.0.0.12:2379" in on(lab, "second", "etcdctl", "--endpoints=http://second:2379", "member", "list")
    assert starts(lab) == before
