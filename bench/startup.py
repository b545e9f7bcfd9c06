"""How long the commands take that ask nothing: python bench/startup.py [ROUNDS] [--of DIRECTORY].

Help, the list of labs, a lab's status, a topology's check and the shell's completion, each a process of its own, with a
home of its own that has one recorded lab whose machines are gone. One round runs each command once, so that a machine
whose speed changes changes all of them. Prints the median of the seconds on the wall and of the processor's, and the
ratio of the processor's to those of an interpreter that does nothing, and of one that imports yaml.

``--of`` measures the labctl of another checkout.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

LAB = "small"
_RECORD = f"""
from pathlib import Path
from labctl.lab.choose import draft
from labctl.records.journal import Journal, StageRecord
from labctl.records.lab import Lab
from labctl.topology.load import load
path = Path("topologies/zed-2node.yaml").resolve()
lab = Lab.create(draft(load(path), name="{LAB}", base="debian12", driver="nspawn").spec, path)
lab.save_journal(Journal([StageRecord("machines", "digest", 0.0, 1.0, 1.0, 1, 1)]))
"""
_LABCTL = "import sys; sys.argv[0] = 'labctl'; from labctl.__main__ import main; main()"
NOTHING, YAML = "python -c pass", "python -c 'import yaml'"
COMMANDS = {
    NOTHING: ["pass"],
    YAML: ["import yaml"],
    "labctl --help": [_LABCTL, "--help"],
    "labctl list": [_LABCTL, "list"],
    f"labctl status {LAB}": [_LABCTL, "status", LAB],
    "labctl validate FILE": [_LABCTL, "validate", "topologies/zed-2node.yaml"],
}
#: Command lines that the shell completes at their end.
LINES = ("labctl st", "labctl status ", "labctl validate ", "labctl up ", f"labctl ssh {LAB} ")


def run(words: list[str], place: Path, **variables: str) -> tuple[float, float]:
    """Seconds on the wall and of the processor that a program takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, **variables}
    subprocess.run([sys.executable, "-c", *words], cwd=place, env=env, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def completion(line: str) -> dict[str, str]:
    """What the shell says to the program that completes."""
    return {"_LABCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}


def main() -> None:
    """Run every command in rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=15)
    parser.add_argument("--of", type=Path, default=Path(__file__).parent.parent, metavar="DIRECTORY")
    options = parser.parse_args()
    place = options.of.resolve()
    cases: dict[str, tuple[list[str], dict[str, str]]] = {name: (words, {}) for name, words in COMMANDS.items()}
    cases |= {f"completion of '{line}'": ([_LABCTL], completion(line)) for line in LINES}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as compiled:
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        run([_RECORD], place, LABCTL_HOME=home)
        for number in range(options.rounds + 1):
            for name, (words, variables) in cases.items():
                found = run(words, place, LABCTL_HOME=home, **variables)
                if number:  # the first round compiles, and warms the disk's cache
                    taken[name].append(found)
    wall, processor = ({name: median(each[i] for each in found) for name, found in taken.items()} for i in (0, 1))
    width = max(map(len, cases))
    print(f"{'seconds':{width}}   wall    cpu  x nothing   x yaml")
    for name in cases:
        ratios = processor[name] / processor[NOTHING], processor[name] / processor[YAML]
        print(f"{name:{width}} {wall[name]:6.3f} {processor[name]:6.3f} {ratios[0]:10.1f} {ratios[1]:8.1f}")


if __name__ == "__main__":
    main()
