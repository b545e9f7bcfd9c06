"""How a plan grows with the number of nodes: python bench/plan_scale.py [NODES ...].

Each size is a process of its own: a controller and that many compute nodes are validated, resolved and planned by the
labctl of this tree, after its imports. Prints processor seconds, peak memory and how much of it was there before, and
the exponents with which seconds and memory grow, by least squares over the sizes.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def _peak() -> int:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(path: Path) -> None:
    """Print what validating, resolving and planning one topology takes, without the imports."""
    sys.path.insert(0, str(ROOT))
    from labctl import drivers
    from labctl.lab.choose import draft
    from labctl.plan.planner import plan
    from labctl.services.base import Context
    from labctl.topology.load import load

    drivers.get("nspawn")  # imported when first needed
    before = _peak()
    marks = [time.process_time()]
    found = load(path)
    marks.append(time.process_time())
    spec = draft(found).spec
    marks.append(time.process_time())
    plan(Context.of(spec))
    marks.append(time.process_time())
    parts = {name: marks[i + 1] - marks[i] for i, name in enumerate(("validate", "resolve", "plan"))}
    print(json.dumps({**parts, "MiB": _peak(), "before": before}))


def exponent(sizes: Sequence[int], amounts: Sequence[float]) -> float:
    """The slope of the line through the logarithms."""
    xs, ys = [math.log(s) for s in sizes], [math.log(a) for a in amounts]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def main() -> None:
    """Measure each size, and fit."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    seconds, memory = [], []
    print("nodes   validate  resolve     plan      all    MiB  of it before")
    with tempfile.TemporaryDirectory() as scratch:
        for nodes in sizes:
            path = Path(scratch) / "big.yaml"
            path.write_text(topology(nodes))
            said = subprocess.run([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(said.stdout)
            parts = [found[name] for name in ("validate", "resolve", "plan")]
            seconds.append(sum(parts))
            memory.append(max(found["MiB"] - found["before"], 1))
            print(
                f"{nodes:5} {parts[0]:9.2f} {parts[1]:8.2f} {parts[2]:8.2f} {seconds[-1]:8.2f} "
                f"{found['MiB']:6} {found['before']:6}"
            )
    if len(sizes) > 1:
        print(f"exponents: seconds {exponent(sizes, seconds):.2f}, memory {exponent(sizes, memory):.2f} (1 is linear)")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith(".yaml"):
        measure(Path(sys.argv[1]))
    else:
        main()
