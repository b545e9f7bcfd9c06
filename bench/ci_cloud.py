"""How long it takes to get an OpenStack in CI: from an exported snapshot, and from nothing, in one run.

    sudo .venv/bin/python bench/ci_cloud.py ARTEFACT [--topology NAME] [--lab NAME] [--without-nothing]

A bare Debian tree (bench/first_hour.py) becomes a container that shares nothing with this machine but its kernel,
network, and its apt and pip configuration. It gets a clone of this checkout's HEAD and the artefact, a file that
``labctl snapshot export`` wrote. There the steps of ``action.yml`` are run (``tools/ci-cloud``): first with the
artefact; then, after ``labctl down``, without it, which builds the golden image; then again, with that image present.
After each: the first token, and the first command in a guest, by SSH. Run it alone: what else works on the machine
counts.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from first_hour import bare_tree, cpu_seconds, environment, inside

#: A user's test: the first command in a guest.
GUEST = """
def test_first(boot, ssh):
    assert ssh(boot("first")).output("echo hello") == "hello"
"""
#: $1 topology, $2 lab, $3 the artefact or nothing. Every part says when it begins.
SCRIPT = r"""set -eu
export RUNNER_TEMP=/root GITHUB_OUTPUT=/root/output TOPOLOGY=$1 NAME=$2
part() { echo "PART $*"; }
cloud() {
    SNAPSHOT=$2
    export SNAPSHOT
    part "$1: up"
    tools/ci-cloud up
    part "$1: first token"
    labctl exec "$NAME" -- openstack token issue -f value -c expires
    part "$1: first SSH into a guest"
    /root/venv/bin/python -m pytest -q -p no:cacheprovider --lab "$NAME" /root/test_first.py
    part "$1: down"
    labctl down "$NAME"
}
part "set-up"
tools/ci-cloud install /root/venv
cloud "artefact" "$3"
if [ "$4" = all ]; then
    cloud "nothing" ""
    cloud "images present" ""
fi
part end
"""


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--topology", default="zed-2node")
    parser.add_argument("--lab", default="", help="the lab's name in the artefact; default: the topology's")
    parser.add_argument("--without-nothing", action="store_true", help="only from the artefact")
    parser.add_argument("--log", type=Path, default=Path("ci_cloud.log"))
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ci-cloud-", dir="/var/tmp"))
    tree = place / "tree"
    marks: list[tuple[str, float, float]] = []
    try:
        bare_tree(tree)
        shutil.copyfile(chosen.artefact, tree / "root/lab.tar.zst")
        (tree / "root/test_first.py").write_text(GUEST)
        last = "artefact" if chosen.without_nothing else "all"
        words = [chosen.topology, chosen.lab or chosen.topology, "/root/lab.tar.zst", last]
        with (
            chosen.log.open("w") as log,
            subprocess.Popen(
                inside(tree, "sh", "-c", SCRIPT, "sh", *words),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(),
            ) as run,
        ):
            assert run.stdout is not None
            began = time.monotonic()
            for line in run.stdout:
                print(f"{time.monotonic() - began:7.1f} {line}", end="", file=log, flush=True)
                if part := re.match(r"PART (.*)", line):
                    marks.append((part[1], time.monotonic(), cpu_seconds()))
        show(marks)
        print(f"ended with {run.returncode}; every line with its time: {chosen.log}")
        return run.returncode
    finally:
        shutil.rmtree(place, ignore_errors=True)


def show(marks: list[tuple[str, float, float]]) -> None:
    """Print each part's seconds."""
    print(f"{'part':<42}{'seconds':>9}{'CPU-seconds':>13}")
    for (name, start, used), (_, until, after) in itertools.pairwise(marks):
        print(f"{name:<42}{until - start:>9.1f}{after - used:>13.1f}")


if __name__ == "__main__":
    sys.exit(main())
