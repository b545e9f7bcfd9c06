"""A small lab of containers in a home of its own, driven as a user would, and what must be true of it."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labctl import __main__
from labctl.drivers.nspawn import PROPAGATE
from labctl.errors import LabError
from labctl.host import cgroup, loops, overlay, paths, process
from labctl.lab import gc
from labctl.lab.down import remains
from labctl.records.lab import Lab

STORE = Path("/var/lib/labctl/images")
DISK = "/dev/disk/by-id/virtio-data"
TOPOLOGY = """
name: {name}
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {{cidr: 10.0.0.0/24}}
nodes:
  first:
    memory: 512 MiB
    disks: {{data: 256 MiB}}
    networks: {{management: 10.0.0.11}}
    runs: [mariadb]
  second:
    memory: 512 MiB
    networks: {{management: 10.0.0.12}}
    runs: [memcached]
"""


@dataclass
class Done:
    """How a command ended; ``killed`` when it was."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float
    killed: bool = False

    def __str__(self) -> str:
        return (
            f"labctl {' '.join(self.words)} ended with {self.status} after {self.seconds:.1f} s\n{self.out}\n{self.err}"
        )


@dataclass
class Home:
    """A labctl home with the machine's image store, and commands in it."""

    path: Path
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "images").exists():
            STORE.mkdir(parents=True, exist_ok=True)
            (self.path / "images").symlink_to(STORE)

    def topology(self, name: str, text: str = TOPOLOGY) -> Path:
        """Write a topology's file; its lab has the same name."""
        path = self.path / f"{name}.yaml"
        path.write_text(text.format(name=name))
        self.names.append(name)
        return path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start labctl; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "labctl", *words],
            env={**os.environ, "LABCTL_HOME": str(self.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *words: str,
        kill_after: float | None = None,
        kill: Callable[[subprocess.Popen[str]], object] = subprocess.Popen.kill,
        timeout: float = 600,
    ) -> Done:
        """Run labctl to its end, or kill it (and nothing it has started) after so many seconds.

        :param kill: what to do to it instead.
        """
        began = time.monotonic()
        running = self.start(*words)
        killed = False
        if kill_after is not None:
            try:
                running.wait(kill_after)
            except subprocess.TimeoutExpired:
                kill(running)
                killed = True
        try:
            # children of a killed labctl may hold its pipes for a moment
            out, err = running.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            running.kill()
            out, err = running.communicate()
            raise AssertionError(f"timed out after {timeout} s: labctl {' '.join(words)}\n{out}\n{err}") from None
        return Done(words, running.returncode, out, err, time.monotonic() - began, killed)

    def must(self, *words: str, timeout: float = 600) -> Done:
        """Run labctl, which must succeed."""
        done = self.run(*words, timeout=timeout)
        assert done.status == 0, str(done)
        return done

    def json(self, *words: str) -> Any:
        """What a listing says."""
        done = self.ask(*words, "-o", "json")
        assert done.status == 0, str(done)
        return json.loads(done.out)

    def ask(self, *words: str) -> Done:
        """Run a labctl that only looks in this process: most of its time it would start."""
        began, out, err = time.monotonic(), io.StringIO(), io.StringIO()
        with self.entered() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["labctl", *words])
            with pytest.raises(SystemExit) as left:
                __main__.run()
        return Done(words, int(left.value.code or 0), out.getvalue(), err.getvalue(), time.monotonic() - began)

    def write(self, lab: str, text: str) -> None:
        """Leave a mark on the first node: in a file and, by its disk, in its layer."""
        self.on_first(lab, f"echo {text} >/root/mark; printf '%-20s' {text} >{DISK}; sync")

    def read(self, lab: str) -> tuple[str, str]:
        """The mark in the file and on the disk."""
        words = self.on_first(lab, f"cat /root/mark; head -c 20 {DISK} | tr -d '\\000'").split()
        return (words[0], words[1]) if len(words) == 2 else ("", "")

    def on_first(self, lab: str, command: str) -> str:
        """Run a command on the first node, without a labctl that would have to start."""
        with self.entered():
            try:
                with Lab.load(lab).connect("first") as session:
                    done = session.run(command, timeout=60)
            except LabError as error:
                raise AssertionError(error.message) from error
        assert done.status == 0, done
        return done.stdout

    @contextmanager
    def entered(self) -> Iterator[pytest.MonkeyPatch]:
        """This process looks into the home."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABCTL_HOME", str(self.path))
            yield patch

    def leaks(self, *names: str) -> list[str]:
        """What is there although no lab of these names should be, by their marks and by what gc finds."""
        with self.entered():
            try:
                found = [item for name in names for item in remains(name)]
                found += [f"{f.kind} {f.name}: {', '.join(f.parts)}" for f in gc.find()]
                if set(names) == set(self.names):
                    found += [f"mount {path}" for path in overlay.below(self.path)]
                    found += [f"loop device {device}" for device in loops.attached(self.path)]
                    found += [f"control group of {lab}" for lab in cgroup.labs()]
                    found += [f"directory {path}" for path in PROPAGATE.glob(f"labctl-{paths.mark()}-*")]
                return found
            except LabError as error:
                return [error.message]

    def clear(self) -> None:
        """Remove every lab, whatever became of the test."""
        for name in {*self.names, *(p.name for p in (self.path / "labs").glob("*"))}:
            self.run("down", name)
        self.run("gc")


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 3 GiB of its own, while a block runs."""
    file, point = directory / "disk.img", directory / "disk"
    point.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as sink:
        sink.truncate(3 * 2**30)
    process.run(["mkfs.ext4", "-q", file])
    process.run(["mount", "-o", "loop", file, point])
    try:
        yield point
    finally:
        process.run(["umount", point])
        file.unlink()


def fill(disk: Path, leave: int) -> None:
    """Leave so many bytes free, by a file ``ballast``."""
    status = os.statvfs(disk)
    size = status.f_bfree * status.f_frsize - leave  # root may use what is reserved, too
    with (disk / "ballast").open("wb", buffering=0) as sink:
        if leave:
            os.posix_fallocate(sink.fileno(), 0, size)
            return
        with suppress(OSError):  # the file system needs some of it for itself
            os.posix_fallocate(sink.fileno(), 0, size - 64 * 2**20)
            sink.seek(0, os.SEEK_END)
            while True:
                sink.write(bytes(2**20))


def moment(longest: float, dice: random.Random) -> float:
    """A time to kill a command that takes so many seconds: anywhere, and often near its beginning."""
    return dice.uniform(0.2, longest) if dice.random() < 0.8 else dice.uniform(0.05, 1.0)
