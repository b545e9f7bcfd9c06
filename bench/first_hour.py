"""How long `make lab` takes on a machine with nothing installed: its parts in seconds, measured in one run.

    sudo .venv/bin/python bench/first_hour.py [--keep] [--suite smoke|all]

A bare Debian tree (the packages that every Debian has, and make) becomes a container that shares nothing with this
machine but its kernel, network, and its apt and pip configuration. A clone of this checkout's HEAD is put into it, and
`make lab` is run. Every line is written down with its time; the table at the end gives each part's seconds and the
machine's CPU-seconds. Run it alone: what else works on the machine counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from labctl.images import apt, pip

ROOT = Path(__file__).parents[1]
#: Runs "$@" with the tree as root, in mount and process namespaces that end with it.
ENTER = """set -eu
root=$1; shift
mount --bind "$root" "$root"
for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
mount -t proc proc "$root/proc"
for place in run tmp; do mount -t tmpfs tmpfs "$root/$place"; done
while [ "$1" != -- ]; do
    # read-only, whatever runs inside: these are the machine's own
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
    shift
done
shift
cd "$root"
pivot_root . mnt
umount -l /mnt
cd /root/labctl
exec "$@"
"""
#: What begins each part, in the order in which they come.
PARTS = (
    ("set-up", re.compile(r"")),
    ("image: system", re.compile(r"image +build debian12-system")),
    ("image: services", re.compile(r"image +build debian12-services")),
    ("image: OpenStack", re.compile(r"image +build debian12-openstack")),
    ("image: compiled", re.compile(r"image +build debian12-debian")),
    ("up", re.compile(r"image +done build debian12-debian")),
    ("proof", re.compile(r"labctl test ")),
    ("end", re.compile(r"labctl info ")),
)


def cpu_seconds() -> float:
    """All CPU-seconds this machine has worked since it was booted."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    busy = sum(int(fields[i]) for i in (0, 1, 2, 5, 6))
    return busy / os.sysconf("SC_CLK_TCK")


def bare_tree(tree: Path) -> None:
    """Make the tree of a Debian on which nothing was installed, with copies of this machine's pip configuration."""
    words = ["mmdebstrap", "--variant=important", "--include=make,ca-certificates", "bookworm", tree, apt.sources()]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["git", "clone", "-q", ROOT, tree / "root/labctl"], check=True)
    own = Path("usr/local/share/ca-certificates")
    shutil.copytree("/" / own, tree / own, dirs_exist_ok=True)
    subprocess.run(["chroot", tree, "update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)
    for file in (p for p in shown() if p.is_file()):
        target = tree / str(file).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(file, target)


def shown() -> list[Path]:
    """Files and directories of this machine that its pip is configured with; certificates are the tree's own."""
    found = {b.source for b in pip.binds("bench") if not b.writable and b.source.exists()}
    return sorted(p for p in found if not p.is_relative_to("/etc/ssl"))


def inside(tree: Path, *words: str) -> list[str]:
    """The command line that runs a command in the container."""
    directories = [str(p) for p in shown() if p.is_dir()]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    return [*namespaces, "sh", "-c", ENTER, "sh", str(tree), *directories, "--", *words]


def environment() -> dict[str, str]:
    """A root's own, with what pip is told on this machine."""
    told = {k: v for k, v in pip.environment().items() if k not in ("PIP_CACHE_DIR", "HOME")}
    return {
        **told,
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
    }


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the tree where it is, for a look")
    parser.add_argument("--suite", default="smoke", help="what proves the lab")
    parser.add_argument("--log", type=Path, default=Path("first_hour.log"))
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="first-hour-", dir="/var/tmp"))
    tree = place / "tree"
    marks: list[tuple[str, float, float]] = []
    try:
        bare_tree(tree)
        began, worked = time.monotonic(), cpu_seconds()
        marks.append((PARTS[0][0], began, worked))
        script = f"make lab SUITE={chosen.suite}; status=$?; .venv/bin/labctl down epoxy-2node; exit $status"
        with (
            chosen.log.open("w") as log,
            subprocess.Popen(
                inside(tree, "sh", "-c", script),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(),
            ) as run,
        ):
            assert run.stdout is not None
            for line in run.stdout:
                now = time.monotonic()
                print(f"{now - began:7.1f} {line}", end="", file=log, flush=True)
                waiting = PARTS[len(marks)] if len(marks) < len(PARTS) else None
                if waiting and waiting[1].search(line):
                    marks.append((waiting[0], now, cpu_seconds()))
        print(f"\n{'part':<20}{'seconds':>9}{'CPU-seconds':>13}")
        for (name, start, used), (_, until, after) in itertools.pairwise(marks):
            print(f"{name:<20}{until - start:>9.1f}{after - used:>13.1f}")
        print(f"{'total':<20}{marks[-1][1] - began:>9.1f}{marks[-1][2] - worked:>13.1f}")
        print(f"make lab ended with {run.returncode}; every line with its time: {chosen.log}")
        return run.returncode
    finally:
        if chosen.keep:
            print(f"the tree: {tree}", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
