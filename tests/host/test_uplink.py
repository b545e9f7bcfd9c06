"""NAT of a lab: it leads out only, and the host is afterwards as it was; in a network namespace that plays the host."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from support import ROOT, SMALL, write

from labctl.errors import LabError
from labctl.host import process, uplink

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(process.missing("ip", "nft", "sysctl")), reason="needs ip, nft and sysctl"),
]
#: Plays a host with one neighbour, who has a public and a private address; prints what is asked.
PLAY = """
import os, socket, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support import specify
from labctl.host import network, process, uplink
from labctl.host.namespace import Inside, connect

def ip(*words):
    process.run(["ip", *words])

process.run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
process.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/netns"])
ip("link", "set", "lo", "up")
ip("netns", "add", "world")
ip("link", "add", "ext", "type", "veth", "peer", "name", "eth0", "netns", "world")
for namespace, card, last in ((None, "ext", 1), ("world", "eth0", 2)):
    inside = ["-n", namespace] if namespace else []
    for prefix in ("198.51.100", "192.168.77"):
        ip(*inside, "address", "add", f"{prefix}.{last}/24", "dev", card)
    ip(*inside, "link", "set", card, "up")

def serve():
    server = socket.create_server(("0.0.0.0", 80))
    threading.Thread(target=lambda: [server.accept() for _ in iter(int, 1)], daemon=True).start()

serve()
with Inside("world", Path("/etc/hosts")) as world:
    world.call(serve)

forward = Path("/proc/sys/net/ipv4/ip_forward")
def state():
    return forward.read_text().strip()

def reached(name, *addresses):
    found = []
    for address in addresses:
        try:
            connect(network.node_namespace(name, "first"), address, 80, 3).close()
            found.append(address)
        except OSError:
            pass
    return found

def made(name):
    spec = specify(Path(sys.argv[2]), name=name)
    network.create(spec)
    network.attach_container(spec, spec.nodes["first"])
    return spec

before = sys.argv[3]
forward.write_text(before)
made("one")
made("two")
gateway = process.output(["ip", "-n", "labctl.one", "route", "show", "default"]).split()[2]
private = ("192.168.77.2", "192.168.77.1", "198.51.100.1", gateway)
print(state(), reached("one", "198.51.100.2", *private), reached("two", "198.51.100.2", *private))
os.environ[uplink.REACH] = "192.168.77.2, 192.168.78.0/24"
made("one")
print(state(), reached("one", "198.51.100.2", *private), reached("two", "192.168.77.2"))
print(network.delete("one"), state(), reached("two", "198.51.100.2"))
print(network.delete("two"), state(), uplink._pairs(), uplink.BEFORE.exists())
print(repr(process.output(["nft", "list", "ruleset"])))
"""


@pytest.mark.parametrize("before", ["0", "1"])
def test_nat_leads_out_only_and_the_host_forwards_as_before_after_the_last_lab(before: str, tmp_path: Path) -> None:
    Path("/etc/netns").mkdir(exist_ok=True)
    topology = write(tmp_path, SMALL.replace("{cidr: 10.0.0.0/24}", "{cidr: 10.0.0.0/24, nat: true}"))
    words = ["unshare", "--net", "--mount", sys.executable, "-c", PLAY, ROOT / "tests", topology, before]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LABCTL_HOME": str(tmp_path / "home"), uplink.REACH: ""}
    assert process.run(words, env=env, timeout=120).stdout.splitlines() == [
        "1 ['198.51.100.2'] ['198.51.100.2']",
        "1 ['198.51.100.2', '192.168.77.2'] []",
        "[] 1 ['198.51.100.2']",
        f"[] {before} [] False",
        "''",
    ]


def test_a_range_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(uplink.REACH, "192.168.1.5/24")
    with pytest.raises(LabError, match=r"LABCTL_NAT_REACH: 192.168.1.5/24 has host bits set"):
        uplink._rules("lab00000000", "169.254.2.2")


def test_labs_whose_names_mean_the_same_pair_of_addresses_get_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred labs two mean the same with a probability of 27 %."""
    there: dict[str, str] = {}

    def told(words: list[str]) -> str:
        return json.dumps([{"ifname": card, "addr_info": [{"local": local}]} for card, local in there.items()])

    monkeypatch.setattr(uplink.process, "output", told)
    first = int(hashlib.sha256(b"class-01").hexdigest()[:4], 16) % 16000
    own = uplink._addresses("class-01")
    assert own == uplink._link_local(first)
    there["lab00000000"] = own[0]
    moved = uplink._addresses("class-01")
    assert moved == uplink._link_local((first + 1) % 16000)
    there[uplink.device("class-01")] = moved[0]
    del there["lab00000000"]
    assert uplink._addresses("class-01") == moved, "it keeps the one it has"
