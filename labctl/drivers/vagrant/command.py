"""Vagrant's command through python-vagrant, with deadlines, progress and full error output.

python-vagrant starts the command itself and has no deadlines, so the command is prefixed with timeout(1), and with
what puts it into the lab's namespace and control group.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host import files, process
from labctl.images.box import Box
from labctl.progress import note, step

PROGRAM = "vagrant"
PLUGIN = "vagrant-libvirt"
#: Seconds for a read-only command, and for adding a box.
LOOK, BOX = 300, 1800
#: Statuses of timeout(1): the command timed out; it had to be killed.
_TIMED_OUT = (124, 137, -9)
#: Tells timeout(1) to end the command when labctl ends.
ENDING = (*process.BOUND, "TERM", "--")


def library() -> Any:
    """The module ``vagrant`` of python-vagrant.

    :raises LabError: it is not installed.
    """
    try:
        import vagrant
    except ImportError as error:
        raise LabError("the driver vagrant needs python-vagrant, which is not installed", "make venv") from error
    return vagrant


def installed() -> bool:
    """True when Vagrant and python-vagrant are installed."""
    return not process.missing(PROGRAM) and importlib.util.find_spec("vagrant") is not None


@functools.cache
def _client() -> Any:
    """python-vagrant's class with a command prefix."""
    base: Any = library().Vagrant

    class Client(base):  # type: ignore[misc, valid-type, unused-ignore]
        words: tuple[str, ...] = ()

        def _make_vagrant_command(self, arguments: Sequence[str | None]) -> list[str]:
            return [*self.words, *super()._make_vagrant_command(arguments)]

        def snapshot(self, verb: str, machine: str, name: str, *options: str) -> None:
            """Snapshots of one machine; python-vagrant's own methods always act on all."""
            self._call_vagrant_command(["snapshot", verb, machine, name, *options])

    return Client


def home() -> Path:
    """Vagrant's home, with its boxes and its index of machines."""
    return Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")


def environment() -> dict[str, str]:
    """The environment of Vagrant's process: the user's, without variables that would redirect it."""
    hidden = ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE", "VAGRANT_DOTFILE_PATH", "LIBVIRT_DEFAULT_URI", "LABCTL_ACCELERATOR")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return {"VAGRANT_DEFAULT_PROVIDER": "libvirt", **kept, "VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"}


@dataclass(frozen=True)
class Vagrant:
    """Vagrant in one directory.

    :param root: the directory of the Vagrantfile.
    :param words: the command prefix.
    :param logs: a directory for command output; a command's log replaces its previous one.
    """

    root: Path
    logs: Path
    words: tuple[str, ...] = ()

    def _made(self, log: Path, seconds: float) -> Any:
        files.make_directories(log.parent)
        files.write_atomic(log, "")
        sink = library().make_file_cm(str(log))
        client = _client()(root=str(self.root), env=environment(), out_cm=sink, err_cm=sink)
        client.words = (*ENDING, "timeout", "--foreground", "--kill-after=10", f"{seconds:.0f}", *self.words)
        return client

    @contextmanager
    def _running(self, what: str, seconds: float) -> Iterator[tuple[Any, Path]]:
        """A client and its log; failures become labctl's errors, with Vagrant's full output."""
        log = self.logs / f"{what.replace(' ', '-')}.log"
        if process.missing(PROGRAM):
            raise LabError("Vagrant is not installed", "apt-get install vagrant vagrant-libvirt; labctl doctor")
        client = self._made(log, seconds)
        try:
            yield client, log
        except process.Failed as error:
            said = log.read_text(errors="replace").strip() or str(error.output or "").strip() or "(no output)"
            if error.returncode in _TIMED_OUT:
                raise DeadlineError(
                    f"vagrant {what} timed out after {seconds:.0f} s; output:\n{said}",
                    f"cd {self.root}; vagrant status",
                ) from error
            raise BrokenLabError(
                f"vagrant {what} failed with status {error.returncode}; output:\n{said}",
                f"cd {self.root}; vagrant status",
            ) from error

    def up(self, node: str, provider: str, seconds: float, *, provision: bool | None = None) -> None:
        """Create and start a machine, or start it; each of Vagrant's steps becomes a progress line.

        :param provision: whether to run its provisioners; by default only when it is created.
        :raises BrokenLabError: it failed; the message has Vagrant's full output.
        :raises DeadlineError: timed out after ``seconds``.
        """
        with self._running(f"up {node}", seconds) as (client, log), files.continued(log, 0o644) as sink:
            for line in client.up(vm_name=node, provider=provider, provision=provision, stream_output=True):
                sink.write(line)
                sink.flush()
                if told := _told(line, node):
                    note(node, told)

    def halt(self, node: str, seconds: float, *, force: bool = False) -> None:
        """Shut a machine down, optionally by force."""
        with self._running(f"halt {node}", seconds) as (client, _):
            client.halt(vm_name=node, force=force)

    def destroy(self, node: str, seconds: float) -> None:
        """Remove a machine with its disks and snapshots."""
        with self._running(f"destroy {node}", seconds) as (client, _):
            client.destroy(vm_name=node)

    def snapshot(self, verb: str, node: str, name: str, seconds: float, *options: str) -> None:
        """``save``, ``restore`` or ``delete`` a machine's snapshot."""
        with self._running(f"snapshot {verb} {node}", seconds) as (client, _):
            client.snapshot(verb, node, name, *options)

    def status(self, node: str | None = None) -> dict[str, str]:
        """Machine -> Vagrant's state: running, poweroff, not_created …"""
        with self._running("status", LOOK) as (client, _):
            return {each.name: each.state for each in client.status(vm_name=node) if each.name}

    def ssh_config(self, node: str) -> dict[str, str]:
        """How Vagrant reaches a machine: HostName, Port, User, IdentityFile of ssh_config(5)."""
        with self._running(f"ssh-config {node}", LOOK) as (client, _):
            found: dict[str, str] = client.conf(vm_name=node)
            return found

    def validate(self) -> None:
        """Have Vagrant validate its Vagrantfile.

        :raises BrokenLabError: it is invalid; the message says why.
        """
        with self._running("validate", LOOK) as (client, _):
            client._call_vagrant_command(["validate"])

    def version(self) -> str:
        """Vagrant's version."""
        with self._running("version", LOOK) as (client, _):
            return str(client.version())

    def plugins(self) -> dict[str, str]:
        """Installed plugins: name -> version."""
        with self._running("plugin list", LOOK) as (client, _):
            return {each.name: each.version for each in client.plugin_list()}

    def boxes(self) -> set[tuple[str, str, str]]:
        """Name, provider and version of every registered box."""
        with self._running("box list", LOOK) as (client, _):
            return {(each.name, each.provider, each.version) for each in client.box_list()}

    def add_box(self, box: Box, provider: str) -> None:
        """Register a box by its catalogue; Vagrant verifies its checksum."""
        with self._running("box add", BOX) as (client, _):
            client.box_add(box.name, box.url, provider=provider, force=True)


def _told(line: str, node: str) -> str:
    """The step in a line of Vagrant's output, without the machine's name; empty for details."""
    text = line.strip()
    told = text.removeprefix(f"==> {node}:").strip() if text.startswith(f"==> {node}:") else ""
    return "" if told.startswith("--") else told


@contextmanager
def scratch() -> Iterator[Vagrant]:
    """Vagrant outside any lab, for boxes, plugins and versions."""
    with files.temporary("labctl-vagrant-") as place:
        yield Vagrant(place, place / "log")


def register(box: Box, provider: str) -> None:
    """Register a box with Vagrant, if it is not registered."""
    with scratch() as client:
        if (box.name, provider, box.version) not in client.boxes():
            with step("image", f"register {box.name} {box.version} with Vagrant"):
                client.add_box(box, provider)
