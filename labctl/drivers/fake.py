"""In-memory machines, each with a directory for its files, for tests of code that uses a driver.

A session runs plain commands with the host's ``sh`` in that directory. A stage's program is not run, since it
would change the host: its operations are parsed and answered as a node would.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labctl.drivers import halt
from labctl.drivers.base import Capabilities, Machine, shutdown_order
from labctl.errors import BrokenLabError, DeadlineError
from labctl.host import files, process, sparse
from labctl.host.links import Shape, card
from labctl.host.ssh import Result, Session
from labctl.records.lab import Lab

_OPERATION = re.compile(r"^op_(\d+)\(\) \{ # ([^\n]*)\n(.*?)^\}$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^# labctl: (\S+)$", re.MULTILINE)


@dataclass
class Box:
    """A machine: whether it runs, and the operations it has seen, which report "ok" the next time."""

    root: Path
    running: bool = False
    paused: bool = False
    #: networks whose cable is unplugged
    unplugged: set[str] = field(default_factory=set)
    #: network -> what its link does to packets
    shapes: dict[str, Shape] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    #: layer -> operations done when it was frozen
    frozen: dict[str, set[str]] = field(default_factory=dict)


class FakeSession(Session):
    """A connection to a box."""

    def __init__(self, driver: Fake, box: Box, where: str) -> None:
        self._driver, self._box, self.where, self.patience = driver, box, where, driver.patience
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def run(
        self, command: str, *, timeout: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Result:
        if self.closed or not self._box.running:
            raise BrokenLabError(f"{self.where}: the connection is closed")
        if stdin:
            status, lines = self._stage(stdin)
            text = "".join(f"{line}\n" for line in lines)
            result = Result(status, text, "")
        else:
            done = process.run(["sh", "-c", command], timeout=timeout, cwd=self._box.root, check=False)
            result = Result(done.returncode, done.stdout, done.stderr)
        if on_line:
            for line in result.stdout.splitlines():
                on_line(line)
        return result

    def _stage(self, archive: bytes) -> tuple[int, list[str]]:
        """Answer the operations of a program in order, up to one that is set to fail; of a diagnosis all."""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            content = {m.name: file.read() for m in tar.getmembers() if (file := tar.extractfile(m)) is not None}
        program = content["program.sh"].decode()
        title = _TITLE.search(program)
        self._driver.stages.append((title[1] if title else "", self.where))
        lines: list[str] = []
        for number, name, body in _OPERATION.findall(program):
            if name in self._driver.failures:
                lines += [f"##out {number} {line}" for line in self._driver.failures[name].splitlines()]
                lines.append(f"##labctl {number} failed 1000000")
                if title and title[1] == "diagnose":
                    continue
                return 1, lines
            inputs = [body.encode(), *(data for path, data in content.items() if path in body)]
            digest = hashlib.sha256(b"\0".join(inputs)).hexdigest()
            lines.append(f"##labctl {number} {'ok' if digest in self._box.done else 'changed'} 1000000")
            self._box.done.add(digest)
        return 0, lines


class Fake:
    """The driver; not registered, each test creates its own."""

    name = "fake"
    patience = 1.0

    def __init__(self) -> None:
        self.boxes: dict[tuple[str, str], Box] = {}
        self.networks: set[str] = set()
        #: title of an operation -> what it prints when it fails
        self.failures: dict[str, str] = {}
        #: (stage, node) of every program that ran
        self.stages: list[tuple[str, str]] = []
        self.sessions: list[FakeSession] = []
        #: nodes in the order in which they were quiesced
        self.rested: list[str] = []

    def probe(self) -> None:
        """Works everywhere."""

    def mtu(self, lab: str) -> int:
        return 0

    def capabilities(self) -> Capabilities:
        return Capabilities(
            own_kernel=False, block_devices=False, device_mapper=False, openvswitch=False, vlan=False, nested_kvm=False
        )

    def image(self, lab: Lab) -> tuple[Path, ...]:
        return (lab.directory / "no-image",)

    def create(self, lab: Lab, node: str) -> None:
        root = lab.top / node / "root"
        for path in (root, lab.node_directory(node)):
            files.make_directories(path)
        box = self.boxes.setdefault((lab.id, node), Box(root))
        if box.root != root:  # the lab is on another stack now
            box.root, box.done = root, set(box.frozen.get(lab.stack[0], ()))

    def start(self, lab: Lab, node: str) -> None:
        box = self.boxes[(lab.id, node)]
        if not box.running:
            halt.forget(lab, node)
            box.running = True
            with files.continued(self.console(lab, node), 0o644) as sink:
                sink.write(f"{node} started\n")

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        with halt.told(lab, node):
            if box := self.boxes.get((lab.id, node)):
                box.running = box.paused = False
        return True

    def rest(self, lab: Lab, seconds: float) -> None:
        for group in shutdown_order(lab.spec):
            for node in group:
                self.stop(lab, node, seconds)
                self.rested.append(node)

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        below, new = lab.layer(stack[0]), lab.layer(layer)
        for root in sorted(below.glob("*/root")):
            sparse.copy(root, new / root.relative_to(below))
        for (owner, _), box in self.boxes.items():
            if owner == lab.id:
                if box.root.parts[-3] == stack[0]:
                    box.frozen[stack[0]] = set(box.done)
                box.frozen[layer] = set(box.frozen.get(stack[0], ()))

    def tidy(self, lab: Lab) -> list[str]:
        return []

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        return {}

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        """Layers contain no host-specific paths."""

    def pause(self, lab: Lab, node: str) -> None:
        box = self.boxes.get((lab.id, node))
        if box is None or not box.running:
            raise BrokenLabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        box.paused = True

    def resume(self, lab: Lab, node: str) -> None:
        if box := self.boxes.get((lab.id, node)):
            box.paused = False

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        card(lab.spec, node, network)
        box = self.boxes[(lab.id, node)]
        (box.unplugged.discard if up else box.unplugged.add)(network)

    def shape(self, lab: Lab, node: str, network: str, shape: Shape) -> None:
        card(lab.spec, node, network)
        self.boxes[(lab.id, node)].shapes[network] = shape

    def files(self, lab: Lab, node: str) -> Path | None:
        box = self.boxes.get((lab.id, node))
        return box.root if box else None

    def written(self, lab: Lab, node: str, stack: tuple[str, ...]) -> tuple[Path, ...]:
        return tuple(path for number in stack if (path := lab.layer(number) / node / "root").is_dir())

    def destroy(self, lab: Lab, node: str) -> list[str]:
        self.boxes.pop((lab.id, node), None)
        for path in (lab.node_directory(node), lab.top / node):
            files.remove(path)
        return []

    def remains(self, name: str) -> list[str]:
        return []

    def sweep(self, name: str) -> list[str]:
        return []

    def litter(self, recorded: set[str]) -> list[Path]:
        return []

    def lost(self, lab: Lab, node: str) -> str:
        box = self.boxes.get((lab.id, node))
        if box is None or not box.running:
            return ""
        return halt.cut_short(lab, node) or ("" if lab.id in self.networks else "the lab's network is gone")

    def machine(self, lab: Lab, node: str) -> Machine:
        box = self.boxes.get((lab.id, node))
        if box is None:
            return Machine(node, exists=False, running=False)
        return Machine(node, True, box.running, paused=box.paused)

    def connect(self, lab: Lab, node: str, seconds: float) -> Session:
        box = self.boxes.get((lab.id, node))
        if box is None or not box.running:
            raise BrokenLabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        if box.paused or lab.spec.management.name in box.unplugged:
            raise DeadlineError(f"{node}: SSH timed out after {seconds:g} s")
        self.sessions.append(FakeSession(self, box, node))
        return self.sessions[-1]

    def console(self, lab: Lab, node: str) -> Path:
        return lab.node_directory(node) / "console.log"

    def create_network(self, lab: Lab) -> None:
        self.networks.add(lab.id)

    def destroy_network(self, lab: Lab) -> list[str]:
        self.networks.discard(lab.id)
        return []

    def cpu_seconds(self, lab: Lab) -> float:
        return 0.0
