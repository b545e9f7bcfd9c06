"""A lab's record on disk: what was built, its secrets and keys, what has been done.

    labs/LAB/lab.json       the record: spec, golden image, the stack of layers, snapshots
    labs/LAB/keys/          labctl's key and the nodes' host keys
    labs/LAB/nodes/NODE/    what a machine has while it exists: mount point, console, process id
    labs/LAB/layers/N/      what all machines wrote while this was the top layer, with the
                            journal and the secrets of that time

Every file is written whole and renamed into place. Only ``lab.json`` says which layers count, so that
one rename switches a lab from one stack to another: a process killed at any moment leaves the old state or
the new one, and a layer that no record names is a leftover.

Most commands open a record, and few do more with the lab: its plan, its keys and the commands to type are made by
modules that the methods import which need them.
"""

from __future__ import annotations

import json
import secrets as randomness
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from labctl import drivers
from labctl.errors import LabError
from labctl.host import files, lock, network, paths, state
from labctl.records.directory import RECORD, REMOVED, exists, names
from labctl.records.journal import Journal, StageRecord
from labctl.records.lease import UNSAID, Lease, Terms, begun
from labctl.secret import Secret
from labctl.topology.model import LayerNumber
from labctl.topology.spec import LabSpec

if TYPE_CHECKING:
    from labctl.drivers.base import Driver
    from labctl.host.ssh import Session
    from labctl.plan.planner import Plan
    from labctl.services.base import Context

SCHEMA = 3
#: Next to a node's files in a layer: a machine's saved memory, and the layer whose memory it resumes from, once.
MEMORY, GOES_ON = "memory", "goes-on"
#: In the record of a clone that belongs to a pool: which one (``labctl.lab.pool``).
POOL = "pool"
#: More than any key, in bytes.
_LARGEST_KEY = 2**16


class _Meta(BaseModel):
    """The least that a record says besides the spec."""

    id: str
    created: float
    topology_file: str
    image: list[str]
    stack: list[LayerNumber] = Field(min_length=1)
    snapshots: dict[str, dict[str, Any]]
    owner: str = ""
    lease: Lease | None = None


class Lab:
    """One lab, opened once by a command: its record, its driver, the facts of its release and base, its plan."""

    def __init__(self, directory: Path, spec: LabSpec, meta: Mapping[str, Any]) -> None:
        self.directory = directory
        self.spec = spec
        self.meta = dict(meta)
        self._context: Context | None = None
        self._plan: Plan | None = None

    @cached_property
    def driver(self) -> Driver:
        """The driver that creates its machines."""
        return drivers.get(self.spec.driver, self.spec.cloud)

    @property
    def context(self) -> Context:
        """Its current spec with the facts of its release and base."""
        if self._context is None or self._context.lab is not self.spec:
            from labctl.services.base import Context

            self._context = Context.of(self.spec)
        return self._context

    @property
    def plan(self) -> Plan:
        """What ``up`` does for its current spec."""
        if self._plan is None or self._plan.context is not self.context:
            from labctl.plan.planner import plan

            self._plan = plan(self.context)
        return self._plan

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    @property
    def id(self) -> str:
        """Random, different for each lab ever created; the ownership mark."""
        return str(self.meta["id"])

    @property
    def namespace(self) -> str:
        """The lab's network namespace: its router, and where its addresses are reachable."""
        return network.lab_namespace(self.name)

    @property
    def hosts_file(self) -> Path:
        """/etc/hosts as seen in the namespace; `ip netns exec` uses the same file."""
        return network.ETC / self.namespace / "hosts"

    def node_directory(self, node: str) -> Path:
        """The directory of one machine."""
        return self.directory / "nodes" / node

    @property
    def layers(self) -> tuple[Path, ...]:
        """The layers of the machines' golden image, top first."""
        return tuple(Path(layer) for layer in self.meta["image"])

    def record_image(self, layers: tuple[Path, ...]) -> None:
        """Record the golden image of the machines."""
        self.meta["image"] = [str(layer) for layer in layers]
        self.save()

    # --- layers --------------------------------------------------------------------------------

    @property
    def stack(self) -> tuple[str, ...]:
        """The lab's layers above the golden image, top first; the machines write into the top one."""
        return tuple(self.meta["stack"])

    @property
    def top(self) -> Path:
        """The layer that the machines write into."""
        return self.layer(self.stack[0])

    def layer(self, number: str) -> Path:
        """The directory of a layer, which need not exist."""
        return self.directory / "layers" / number

    def new_layer(self) -> str:
        """A layer number that is not used in this lab's record or directory."""
        known = {*self.stack, *(n for s in self.meta["snapshots"].values() for n in s["stack"])}
        known |= {p.name for p in (self.directory / "layers").iterdir()}
        return str(max(int(n) for n in known if n.isdigit()) + 1)

    def connect(self, node: str, seconds: float = 20) -> Session:
        """Open a session to a node.

        :raises LabError: there is no such node, or it does not answer in time.
        """
        return self.driver.connect(self, self.spec.node(node).name, seconds)

    # --- what to type ----------------------------------------------------------------------------

    def up(self, name: str | None = None) -> str:
        """The command that resumes this lab, or creates one like it under another name."""
        from labctl.records import hints

        return hints.up(self.spec, Path(self.meta["topology_file"]), name)

    # --- files ---------------------------------------------------------------------------------

    def save(self) -> None:
        """Write lab.json, which contains the passwords set in a topology."""
        content = {"schema": SCHEMA, **self.meta, "spec": self.spec.model_dump(mode="json")}
        files.rewrite(self.directory / RECORD, json.dumps(content, indent=1))

    def journal(self) -> Journal:
        """Read the journal.

        :raises LabError: it cannot be read.
        """
        path = self.top / "journal.json"
        if not path.exists():
            return Journal()
        return Journal(state.read(path, list[StageRecord], lambda: f"rm {path}; {self.up()} runs every stage again"))

    def save_journal(self, journal: Journal) -> None:
        """Write the journal."""
        text = json.dumps([asdict(s) for s in journal.stages], indent=1)
        files.write_atomic(self.top / "journal.json", text)

    def secrets(self) -> dict[str, Secret]:
        """Read the lab's secrets.

        :raises LabError: they cannot be read.
        """
        path = self.top / "secrets.json"
        if not path.exists():
            return {}
        known: dict[str, str] = state.read(path, dict[str, str], f"labctl down {self.name}")
        return {name: Secret(value) for name, value in known.items()}

    def ensure_secrets(self, names: set[str]) -> dict[str, Secret]:
        """Return the secrets of these names, creating missing ones: random, or the topology's."""
        known = self.secrets()
        chosen = {name.upper(): value for name, value in self.spec.passwords.items()}
        wanted = {
            name: Secret(chosen[name]) if name in chosen else known.get(name, Secret(randomness.token_hex(12)))
            for name in sorted(names | set(known) | set(chosen))
        }
        if wanted != known:
            text = json.dumps({name: value.reveal() for name, value in wanted.items()}, indent=1)
            files.write_atomic(self.top / "secrets.json", text, 0o600)
        return wanted

    def private_key(self) -> str:
        """labctl's own key for the nodes' root accounts."""
        return self._key("id_ed25519")

    def public_key(self) -> str:
        """Its public half."""
        return self._key("id_ed25519.pub")

    def host_key(self, node: str) -> str:
        """The public host key of a node."""
        return self._key(f"{node}.pub")

    def host_private_key(self, node: str) -> str:
        """The private host key of a node."""
        return self._key(node)

    def _key(self, name: str) -> str:
        path = self.directory / "keys" / name
        try:
            with files.opened(path) as source:
                return source.read(_LARGEST_KEY).decode("ascii")
        except (OSError, ValueError) as error:
            raise LabError(f"{path} cannot be read, or is no key", f"labctl down {self.name}") from error

    def ensure_keys(self) -> None:
        """Create labctl's key and every node's host key, and a known_hosts file for users' ssh."""
        from labctl.host.ssh import new_key, save_private

        keys = self.directory / "keys"
        pairs = {"id_ed25519": f"labctl {self.name}"} | {n: f"root@{n}" for n in self.spec.nodes}
        for name, comment in pairs.items():
            if not (keys / f"{name}.pub").exists():
                pair = new_key(comment)
                save_private(keys / name, pair.private)
                files.write_atomic(keys / f"{name}.pub", pair.public + "\n")
        lines = [
            f"{node.name},{self.spec.address(node)} {' '.join(self.host_key(node.name).split()[:2])}"
            for node in self.spec.nodes.values()
        ]
        files.write_atomic(keys / "known_hosts", "\n".join(lines) + "\n")

    # --- life ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, spec: LabSpec, topology_file: Path, terms: Terms = UNSAID) -> Lab:
        """Create the directory of a new lab.

        :param terms: its owner, by default who runs labctl, and its lease.
        :raises LabError: when the name is taken.
        """
        directory = paths.labs() / spec.name
        if exists(spec.name):
            raise LabError(f"a lab named {spec.name} already exists", f"labctl status {spec.name}")
        # more than a process killed at this point leaves
        if (directory / "nodes").exists() or any((directory / "layers").glob("*/*")):
            raise LabError(f"{directory} has machines, but no record of their lab", f"labctl down {spec.name}")
        meta = {
            "id": randomness.token_hex(4),
            "created": time.time(),
            "topology_file": str(topology_file.absolute()),
            "image": [],
            "stack": ["1"],
            "snapshots": {},
            **begun(terms),
        }
        lab = cls(directory, spec, meta)
        files.make_directories(lab.top, 0o700)
        lab.save()
        return lab

    @classmethod
    def load(cls, name: str, record: str = RECORD) -> Lab:
        """Read a lab's state.

        :param record: the file to read, RECORD or REMOVED.
        :raises LabError: when there is no such lab, or its state cannot be read.
        """
        directory = paths.labs() / name
        path = directory / record
        if not path.exists():
            from labctl.records import hints

            known = ", ".join(names()) or "none"
            raise LabError(
                f"there is no lab named '{name}'; labs: {known}", f"labctl list; {hints.first(name)} creates one"
            )
        content: dict[str, Any] = state.read(path, dict[str, Any], f"labctl down {name}")
        try:
            if content.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            spec = LabSpec.model_validate(content.pop("spec"))
            _Meta.model_validate(content)
            if spec.name != name:
                raise ValueError("a name that this lab does not have")
        except (ValueError, LookupError, TypeError) as error:
            raise LabError(
                f"{path} cannot be read, or was written by another version of labctl", f"labctl down {name}"
            ) from error
        return cls(directory, spec, content)


def begin_removal(name: str) -> None:
    """Mark a recorded lab as being removed: a half-removed lab is never started again.

    :raises LabError: the directory cannot be written.
    """
    directory = paths.labs() / name
    try:
        files.move(directory / RECORD, directory / REMOVED)
    except OSError as error:
        raise LabError(f"labctl cannot write to {directory}: {error.strerror}", "the same command with sudo") from error


def remove_directory(directory: Path) -> bool:
    """Delete a lab's directory, its record last: after a kill the next command still knows what it was.

    :return: False when something could not be deleted.
    """
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            files.remove(entry)
        elif entry.name not in (RECORD, REMOVED):
            with suppress(OSError):
                files.erase(entry)
    if all(entry.name in (RECORD, REMOVED) for entry in directory.iterdir()):
        files.remove(directory)
    return not directory.exists()


def lock_file(name: str) -> Path:
    """The file that is locked while a command changes a lab."""
    return paths.home() / "locks" / f"{name}.lock"


@contextmanager
def locked(name: str, command: str) -> Iterator[None]:
    """Lock a lab while a command changes it.

    The lock file is removed with the lab.

    :raises LabError: when another process holds it; says which.
    """
    path = lock_file(name)
    with lock.held(path, command or " ".join(sys.argv), lambda holder: _held(name, holder)):
        try:
            yield
        finally:
            if not (paths.labs() / name).exists():
                files.erase(path)


def _held(name: str, holder: str) -> LabError:
    return LabError(
        f"the lab {name} is being changed by {holder or 'another labctl'}", "wait until it finishes, or stop it"
    )
