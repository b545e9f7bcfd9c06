"""A directory that stands for a node: a real shell and real files; package and service managers are stand-ins."""

from __future__ import annotations

import getpass
import grp
import io
import os
import re
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.host import process
from labctl.operations.node import Chain, Command, File, Item
from labctl.operations.populate import Invocation, Invocations
from labctl.operations.runner import archive
from labctl.secret import Secret

MARKER = re.compile(r"##labctl (\d+) (ok|changed|failed) (\d+)")

ME = getpass.getuser()
MY_GROUP = grp.getgrgid(os.getgid()).gr_name
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners and accounts, which needs root")

SHIMS = {
    "mysql": """
        case $2 in
        root) if [ $# -gt 2 ]; then printf '%s\\n' "$4"; else cat; fi >>"$state/sql" ;;
        *) grep -q "ON $7\\.\\* TO '$2'@'localhost' IDENTIFIED BY '$MYSQL_PWD'" "$state/sql" ;;
        esac""",
    "systemctl": """
        echo "$*" >>"$state/systemctl"
        case $1 in
        is-active)
            if [ "$2" = -q ]; then [ -e "$state/active-$3" ]; exit; fi
            if [ -e "$state/failed-$2" ]; then echo failed; else echo active; fi ;;
        is-enabled)
            if [ -e "$state/masked-$2" ]; then echo masked; exit 1; fi
            if [ -e "$state/enabled-$2" ]; then echo enabled; else echo disabled; exit 1; fi ;;
        unmask) rm "$state/masked-$2" ;;
        --no-reload) [ "$2" = enable ] && [ ! -e "$state/masked-$3" ] && touch "$state/enabled-$3" ;;
        restart) [ ! -e "$state/broken-$2" ] && touch "$state/active-$2" ;;
        cat) cat "$state/unit-$2" 2>/dev/null ;;
        show)
            case $* in
            *SubState*)
                if [ -s "$state/starting-$4" ]; then
                    echo SubState=start
                    sed -i 1d "$state/starting-$4"
                else
                    echo SubState=running
                fi ;;
            *) echo "NRestarts=$(cat "$state/restarts-$4" 2>/dev/null || echo 0)" ;;
            esac ;;
        esac""",
    "journalctl": 'echo "journal of $2"',
    "apt-get": """
        echo "$*" >>"$state/apt-get"
        for word; do
            case $word in -* | install) ;; broken) exit 100 ;; *) touch "$state/info/$word.list" ;; esac
        done""",
}
RPM = {
    "rpm": '[ -e "$state/rpm-$3" ]',
    "yum": 'echo "$*" >>"$state/yum"; shift 2; for p; do touch "$state/rpm-$p"; done',
}
#: What a node has besides its package manager.
TOOLS = ("cat", "cmp", "cut", "date", "dirname", "env", "mkdir", "mv", "nproc", "sed", "sh", "tail", "touch", "xargs")


@dataclass
class Ran:
    """What one run of a program printed."""

    status: int
    text: str
    place: Path

    @property
    def states(self) -> list[str]:
        """States by number; operations that did not run have none."""
        return [m[2] for m in sorted(MARKER.finditer(self.text), key=lambda m: int(m[1]))]

    def said(self, number: int) -> str:
        """What a failed operation printed."""
        head = f"##out {number} "
        return "\n".join(line.removeprefix(head) for line in self.text.splitlines() if line.startswith(head))

    def output(self, number: int) -> str:
        """What any operation printed."""
        return (self.place / f"{number}.out").read_text()


class Machine:
    """A directory that stands for a node: state of its shims, stamps, and a place for uploaded archives."""

    def __init__(self, root: Path, shims: dict[str, str], only: tuple[str, ...] = ()) -> None:
        self.root = root
        self.state = root / "state"
        (self.state / "info").mkdir(parents=True)
        bin_ = root / "bin"
        bin_.mkdir()
        for name, body in shims.items():
            shim = bin_ / name
            shim.write_text(f"#!/bin/sh\nstate={self.state}\n{body}\n")
            shim.chmod(0o755)
        for name in only:
            if found := shutil.which(name):
                (bin_ / name).symlink_to(found)
        self.path = str(bin_) if only else f"{bin_}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.runs = 0

    def run(self, *items: Item, secrets: dict[str, Secret] | None = None) -> Ran:
        """Upload and run, as the engine does."""
        self.runs += 1
        place = self.root / f"run{self.runs}"
        with tarfile.open(fileobj=io.BytesIO(archive("test", items, secrets or {}))) as tar:
            tar.extractall(place, filter="data")
        program = place / "program.sh"
        text = re.sub(r"^PATH=.*$", f"PATH={self.path}", program.read_text(), count=1, flags=re.MULTILINE)
        text = text.replace("stamps=/var/lib/labctl/stamps", f"stamps={self.root}/stamps")
        text = text.replace("tables=/usr/share/labctl/tables", f"tables={self.root}/tables")
        program.write_text(text.replace("/var/lib/dpkg/info", f"{self.state}/info"))
        done = process.run(["sh", program], check=False, timeout=30)
        assert done.stderr == ""
        return Ran(done.returncode, done.stdout, place)

    def log(self, shim: str) -> list[str]:
        """The calls of a shim."""
        path = self.state / shim
        return path.read_text().splitlines() if path.exists() else []


def invocations(machine: Machine, *each: Invocation, **more: Any) -> Invocations:
    """Commands of a program that notes each import of its module and each run; ``end N`` ends with N."""
    program, module = machine.root / "counted-manage", machine.root / "counted.py"
    notes = str(machine.root / "notes")
    module.write_text(
        "import os, sys\n"
        f"def note(text): open({notes!r}, 'a').write(text + '\\n')\n"
        "note('import')\n"
        "def main():\n"
        "    note(' '.join([os.environ.get('USER', ''), os.environ.get('KEY', ''), *sys.argv[1:]]))\n"
        "    return int(sys.argv[2]) if sys.argv[1] == 'end' else None\n"
    )
    program.write_text(
        f"#! {sys.executable}\nimport sys\nsys.path.insert(0, {str(machine.root)!r})\n"
        "from counted import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    program.chmod(0o755)
    (machine.root / "stamps").mkdir(exist_ok=True)
    made = each or (invocation(machine, "db sync", fills=True), invocation(machine, "cell0"))
    return Invocations("tables", str(program), made, **more)


def invocation(machine: Machine, words: str, **more: Any) -> Invocation:
    stamp = str(machine.root / "stamps" / words.replace(" ", "-"))
    return Invocation(words, words, **{"user": ME, "stamp": stamp, **more})


def file(machine: Machine, content: str = "a = 1\n", mode: str = "0640") -> File:
    return File(str(machine.root / "etc" / "it.conf"), content, ME, MY_GROUP, mode)


def chain(machine: Machine) -> Chain:
    """Two commands, each of which makes a directory."""
    return Chain(
        "two",
        tuple(Command(n, f"mkdir {machine.root}/{n}", f"[ -d {machine.root}/{n} ]") for n in "ab"),
    )
