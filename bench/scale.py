"""How long many small nodes take: up, up again, down, and two such labs at once.

    sudo .venv/bin/python bench/scale.py [--nodes N] [--until STAGE] [--without-two]

A controller with identity, networking and object storage, and nodes of which half run Neutron's layer-2 agent and half
store objects. Prints seconds and the lab's processor seconds, and two labs' seconds as a multiple of one's.
Run it alone.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

from up import labctl

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("bench-scale", "bench-scale-2")
TOTAL = re.compile(r"^  total +([\d.]+) s +cpu +([\d.]+) s", re.MULTILINE)


_CONTROLLER = "mariadb, rabbitmq, memcached, keystone, neutron-server, swift-proxy"


def topology(nodes: int) -> str:
    """A controller and small nodes."""
    lines = [
        "name: scale",
        "release: zed",
        "bases: [debian12]",
        "drivers: [nspawn]",
        "networks: {management: {cidr: 10.0.0.0/16}, provider: {cidr: 203.0.113.0/24}}",
        "nodes:",
        f"  controller: {{memory: 3 GiB, networks: {{management: 10.0.255.1, provider: none}}, runs: [{_CONTROLLER}]}}",
    ]
    for i in range(1, nodes):
        address = f"10.0.{1 + i // 250}.{2 + i % 250}"
        if i % 2:
            own = f"memory: 256 MiB, networks: {{management: {address}, provider: none}}, runs: [neutron-l2]"
        else:
            own = (
                f"memory: 384 MiB, networks: {{management: {address}}}, runs: [swift-storage], disks: {{swift1: 1 GiB}}"
            )
        lines.append(f"  {'agent' if i % 2 else 'storage'}{i}: {{{own}}}")
    return "\n".join(lines) + "\n"


def timed(*words: str) -> tuple[float, str]:
    """Seconds, and what labctl printed."""
    began = time.monotonic()
    said = labctl(ROOT, *words)
    return time.monotonic() - began, said


def both(*words: str) -> float:
    """Seconds of the same for both labs at once."""
    began = time.monotonic()
    working = [threading.Thread(target=timed, args=[word.replace("NAME", name) for word in words]) for name in NAMES]
    for each in working:
        each.start()
    for each in working:
        each.join()
    return time.monotonic() - began


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--until", default="verify", metavar="STAGE")
    parser.add_argument("--without-two", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "scale.yaml"
        path.write_text(topology(options.nodes))
        begin = ("up", str(path), "--until", options.until, "--name")
        try:
            labctl(ROOT, "up", str(path), "--name", NAMES[0], "--until", "machines")  # makes the image
            timed("down", NAMES[0])
            up, said = timed(*begin, NAMES[0])
            cpu = float(found[2]) if (found := TOTAL.search(said)) else 0.0
            print(f"up {options.nodes} nodes      {up:6.1f} s   {cpu:6.1f} CPU-seconds")
            print(f"up again         {timed('up', str(path), '--name', NAMES[0])[0]:6.1f} s")
            print(f"down             {timed('down', NAMES[0])[0]:6.1f} s")
            if not options.without_two:
                two = both(*begin, "NAME")
                print(f"two labs at once {two:6.1f} s   {two / up:6.2f} times one")
                print(f"both down        {both('down', 'NAME'):6.1f} s")
        finally:
            for name in NAMES:
                timed("down", name)


if __name__ == "__main__":
    main()
