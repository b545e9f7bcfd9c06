"""How a plan grows with the number of nodes: python bench/plan_scale.py [NODES ...].

Each size is a process of its own: a controller and that many compute nodes are validated, resolved and planned. Prints
processor seconds and memory of each, and the exponent with which the seconds grow, by least squares over the sizes.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (300, 1000, 3000, 10000)
_CONTROLLER = (
    "mariadb, rabbitmq, memcached, keystone, glance, placement, nova-controller, neutron-server, neutron-l2, "
    "neutron-l3, neutron-dhcp, neutron-metadata"
)


def topology(nodes: int) -> str:
    """A controller and compute nodes."""
    lines = [
        "name: big",
        "release: zed",
        "bases: [debian12]",
        "drivers: [nspawn]",
        "networks: {management: {cidr: 10.0.0.0/16}, provider: {cidr: 203.0.113.0/24}}",
        "nodes:",
        "  controller:",
        f"    {{memory: 64 GiB, networks: {{management: 10.0.255.1, provider: none}}, runs: [{_CONTROLLER}]}}",
    ]
    lines += [
        f"  compute{i}: {{networks: {{management: 10.0.{i // 250}.{2 + i % 250}, provider: none}}, "
        "runs: [nova-compute, neutron-l2]}"
        for i in range(nodes)
    ]
    return "\n".join(lines) + "\n"


def measure(path: Path) -> None:
    """Print what validating, resolving and planning one topology takes, without the imports."""
    from labctl.lab.choose import draft
    from labctl.plan.planner import plan
    from labctl.services.base import Context
    from labctl.topology.load import load

    marks = [time.process_time()]
    found = load(path)
    marks.append(time.process_time())
    spec = draft(found).spec
    marks.append(time.process_time())
    plan(Context.of(spec))
    marks.append(time.process_time())
    parts = {name: marks[i + 1] - marks[i] for i, name in enumerate(("validate", "resolve", "plan"))}
    print(json.dumps({**parts, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """The slope of the line through the logarithms."""
    xs, ys = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def main() -> None:
    """Measure each size, and fit."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    seconds = []
    print("nodes   validate  resolve     plan      all    MiB")
    with tempfile.TemporaryDirectory() as scratch:
        for nodes in sizes:
            path = Path(scratch) / "big.yaml"
            path.write_text(topology(nodes))
            said = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
            found = json.loads(said.stdout)
            parts = [found[name] for name in ("validate", "resolve", "plan")]
            seconds.append(sum(parts))
            print(f"{nodes:5} {parts[0]:9.2f} {parts[1]:8.2f} {parts[2]:8.2f} {seconds[-1]:8.2f} {found['MiB']:6}")
    if len(sizes) > 1:
        print(f"exponent {exponent(sizes, seconds):.2f} (1 is linear)")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith(".yaml"):
        measure(Path(sys.argv[1]))
    else:
        main()
