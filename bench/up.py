"""How long a lab takes to come up, by each of several checkouts in turn, and how much of the processors it uses.

    sudo .venv/bin/python bench/up.py [--of DIRECTORY]... [--rounds N] [--topology NAME]

One round brings the topology up and down once by each checkout; without ``--of`` there is only this one. Images are
made before the first round. Prints the median seconds, the lab's processor seconds, by how much the seconds exceed
these on all cores, the ratio to the first checkout, and each stage's seconds. Run it alone.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

LAB = "bench-up"
LINE = re.compile(r"^  (\w+) +([\d.]+) s +cpu +([\d.]+) s", re.MULTILINE)


def labctl(place: Path, *words: str) -> str:
    """What the labctl of a checkout prints."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *words], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"labctl {' '.join(words)} in {place} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def once(place: Path, topology: str) -> dict[str, tuple[float, float]]:
    """Seconds on the wall and of the processors, by stage and in total."""
    try:
        said = labctl(place, "up", topology, "--name", LAB)
    finally:
        labctl(place, "down", LAB)
    return {name: (float(wall), float(cpu)) for name, wall, cpu in LINE.findall(said)}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, action="append", metavar="DIRECTORY")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--topology", default="zed-2node")
    options = parser.parse_args()
    places = [place.resolve() for place in options.of or [Path(__file__).parent.parent]]
    for place in places:
        labctl(place, "up", options.topology, "--name", LAB, "--until", "packages")
        labctl(place, "down", LAB)
    taken: dict[Path, list[dict[str, tuple[float, float]]]] = {place: [] for place in places}
    for number in range(options.rounds):
        for place in places:
            taken[place].append(once(place, options.topology))
            print(f"round {number + 1}, {place}: {taken[place][-1]['total']}", file=sys.stderr)
    cores = os.cpu_count() or 1
    first = median(run["total"][0] for run in taken[places[0]])
    print(f"{'checkout':40} {'seconds':>8} {'cpu':>7} {'x cpu/cores':>12} {'x first':>8}")
    for place, runs in taken.items():
        wall, cpu = (median(run["total"][i] for run in runs) for i in (0, 1))
        print(f"{place!s:40} {wall:8.1f} {cpu:7.1f} {wall / (cpu / cores):12.2f} {wall / first:8.2f}")
    for place, runs in taken.items():
        stages = (f"{name} {median(run[name][0] for run in runs):.1f}" for name in runs[0])
        print(f"{place}: {', '.join(stages)}")


if __name__ == "__main__":
    main()
