"""A small estate in the lab's demo project, and whether all of it is alive: what an upgrade must not lose.

Runs in the lab's namespace.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException
from pydantic import BaseModel

from labctl.errors import BrokenLabError, LabError
from labctl.host import files, state
from labctl.records import cloud
from labctl.records.access import Access
from labctl.testing import resources, stacks
from labctl.testing.guest import Guest, KeyPair, new_key
from labctl.testing.projects import Project
from labctl.testing.waits import wait_for

NAME = "labctl-upgrade"
RECORD, KEY = "estate.json", "estate.key"
#: Bytes of the image, and of each object.
IMAGE, OBJECT = 2**20, 2**16
OBJECTS = 3
#: Seconds for a guest, under software emulation on a busy machine, to answer after its start.
ANSWERS = 300


class Record(BaseModel):
    """Ids, addresses and checksums, as they were before the first hop."""

    name: str
    project: str
    ids: dict[str, str]
    address: str
    fixed: str
    sums: dict[str, str]
    rules: int
    stack: str = ""


@dataclass
class Estate:
    """The estate of one lab."""

    directory: Path
    access: Access

    # --- made -------------------------------------------------------------------------------------

    def ensure(self) -> Record:
        """Make the estate, unless it is there.

        :raises LabError: an API refuses a part of it.
        """
        try:
            return self._ensured()
        except (SDKException, ClientException) as error:
            raise BrokenLabError(f"the estate cannot be made: {error}", f"labctl diagnose {self.access.lab}") from error

    def _ensured(self) -> Record:
        if (self.directory / RECORD).exists():
            known = self.record()
            if self._connection.compute.find_server(known.ids["server"]) is not None:
                return known
        return self._make()

    def record(self) -> Record:
        """What was made."""
        known: Record = state.read(self.directory / RECORD, Record, f"rm {self.directory / RECORD}")
        return known

    @property
    def _connection(self) -> Any:
        return self._project.connection

    @functools.cached_property
    def _project(self) -> Project:
        known, info = self.access, cloud.access_info(cloud.as_demo(self.access).session)
        return Project(
            known, str(info.project_id), known.demo_project, str(info.user_id), known.demo_user, known.demo_password
        )

    def _make(self) -> Record:
        project, own = self._project, self._connection
        name = f"{NAME}-{os.urandom(3).hex()}"  # labctl may have been killed while it made another
        key = self._new_key()
        admin = cloud.as_admin(self.access)
        keystone = cloud.identity(admin)
        role = keystone.create_role(name=name)
        user = keystone.create_user(name=name, password=os.urandom(12).hex())
        keystone.assign_project_role_to_user(project.id, user, role)
        own.compute.create_keypair(name=name, public_key=key.public)
        group = resources.make_security_group(project, name)
        network = resources.make_network(project, name)
        server = resources.create_server(project, name, network=network.id, key_name=name, group=group.id)
        volume = resources.wait_volume(own, own.block_storage.create_volume(name=name, size=1))
        image, container = self._bytes_kept(own, name)
        server = resources.wait_server(own, server)
        address = resources.floating_address(project, server)
        resources.attach(own, server, volume)
        with self._guest(server, address, key).connect(ANSWERS) as guest:
            written = guest.write_disk(_disk(guest))
        snapshot = own.block_storage.create_snapshot(name=name, volume_id=volume.id, is_forced=True)
        resources.wait_snapshot(own, snapshot)
        made = Record(
            name=name,
            project=project.id,
            ids={
                "server": server.id,
                "volume": volume.id,
                "snapshot": snapshot.id,
                "image": image[0],
                "network": network.id,
                "router": network.router.id,
                "security group": group.id,
                "user": user.id,
                "role": role.id,
            },
            address=address,
            fixed=resources.fixed_address(project, server),
            sums={"volume": written, "image": image[1], **container},
            rules=len(own.network.get_security_group(group.id).security_group_rules),
            stack=self._stack() if "heat" in self.access.components else "",
        )
        self._save(made)
        return made

    def _save(self, made: Record) -> None:
        files.write_atomic(self.directory / RECORD, made.model_dump_json(indent=1))

    def _bytes_kept(self, own: Any, name: str) -> tuple[tuple[str, str], dict[str, str]]:
        """An image's id and checksum, and the checksums of objects by name."""
        data = os.urandom(IMAGE)
        image = own.image.create_image(
            name, data=data, disk_format="raw", container_format="bare", visibility="private", allow_duplicates=True
        )
        sums: dict[str, str] = {}
        if "swift-proxy" in self.access.components:
            own.object_store.create_container(name)
            for number in range(OBJECTS):
                body = os.urandom(OBJECT)
                own.object_store.upload_object(name, f"object-{number}", data=body)
                sums[f"object-{number}"] = hashlib.sha256(body).hexdigest()
        return (image.id, hashlib.sha256(data).hexdigest()), sums

    def _stack(self) -> str:
        heat = self._connection.orchestration
        # heat keeps the name of a deleted stack for another moment
        made = stacks.create(heat, f"{NAME}-{os.urandom(3).hex()}", _template("first"))
        stacks.wait(heat, made, "CREATE_COMPLETE")
        return made

    def _new_key(self) -> KeyPair:
        key = new_key(NAME)
        files.write_atomic(self.directory / KEY, key.pem, 0o600)
        return key

    def _key(self) -> KeyPair:
        return KeyPair.read(NAME, (self.directory / KEY).read_text())

    def _guest(self, server: Any, address: str, key: KeyPair) -> Guest:
        own = self._connection
        return Guest(
            address,
            self.access.guest_user,
            key,
            failed=lambda: resources.fault(own.compute.get_server(server.id)),
            console=lambda: resources.console(own, server),
        )

    # --- checked ----------------------------------------------------------------------------------

    def look(self) -> list[str]:
        """What of the estate is not as it was; empty when all of it is alive."""
        known = self.record()
        return [f"{name}: {problem}" for name, look in self._looks(known) for problem in _failing(look)]

    def _looks(self, known: Record) -> Iterator[tuple[str, Callable[[], str | None]]]:
        own, ids = self._connection, known.ids
        kept = [name for name in known.sums if name.startswith("object-")]
        yield "keypair", lambda: None if own.compute.find_keypair(known.name) else "is gone"
        yield "network", lambda: None if own.network.find_network(ids["network"]) else "is gone"
        yield "router", lambda: None if own.network.find_router(ids["router"]) else "is gone"
        yield "security group", lambda: self._rules(known)
        yield "user and role", lambda: self._granted(known)
        yield "image", lambda: _same(known.sums["image"], own.image.download_image(ids["image"]).content)
        yield (
            "volume snapshot",
            lambda: _is("available", own.block_storage.get_snapshot(ids["snapshot"]).status),
        )
        for name in kept:
            yield name, functools.partial(self._object, known, name)
        yield "server", lambda: self._serves(known)
        if "heat" in self.access.components:
            yield "stack", lambda: self._stack_lives(known)

    def _object(self, known: Record, name: str) -> str | None:
        return _same(known.sums[name], self._connection.object_store.download_object(name, container=known.name))

    def _rules(self, known: Record) -> str | None:
        found = len(self._connection.network.get_security_group(known.ids["security group"]).security_group_rules)
        return None if found == known.rules else f"has {found} rules instead of {known.rules}"

    def _granted(self, known: Record) -> str | None:
        admin = cloud.as_admin(self.access)
        path = f"/projects/{known.project}/users/{known.ids['user']}/roles"
        roles = cloud.body(admin.session.get(path, endpoint_filter={"service_type": "identity"}))["roles"]
        return None if known.ids["role"] in {role["id"] for role in roles} else "the role is not granted any more"

    def _serves(self, known: Record) -> str | None:
        """The server starts, answers at its addresses, and its volume has the file."""
        project, own = self._project, self._connection
        server = own.compute.get_server(known.ids["server"])
        if server.status != "ACTIVE":
            own.compute.start_server(server)
            server = resources.wait_server(own, server)
        if (fixed := resources.fixed_address(project, server)) != known.fixed:
            return f"has the address {fixed} instead of {known.fixed}"
        with self._guest(server, known.address, self._key()).connect(ANSWERS) as guest:
            found = guest.read_disk(_disk(guest))
        return None if found == known.sums["volume"] else "the file on its volume has other bytes"

    def _stack_lives(self, known: Record) -> str | None:
        """The stack of the release before can be updated and deleted; the next one is this release's."""
        heat = self._connection.orchestration
        if known.stack:
            there = [stack.id for stack in heat.stacks() if stack.name.startswith(NAME)]
            if not there:
                return "is gone"
            if known.stack not in there:  # made by a hop that was taken back with its snapshot
                known.stack = there[0]
            stacks.update(heat, known.stack, _template("second"))
            stacks.delete(heat, known.stack)
            known.stack = ""
            self._save(known)
        known.stack = self._stack()
        self._save(known)
        return None


def _disk(guest: Guest) -> str:
    """The second disk of a guest, once it is there."""
    return wait_for(
        "the guest's second disk",
        lambda: guest.root("for d in vdb sdb; do [ -b /dev/$d ] && echo /dev/$d; done; true").stdout.split(),
        done=bool,
        deadline=60,
    )[0]


def _template(label: str) -> stacks.Template:
    return stacks.template(
        {
            "network": {"type": "OS::Neutron::Net", "properties": {"name": f"{NAME}-{label}"}},
            "word": {"type": "OS::Heat::RandomString", "properties": {"length": 16}},
        }
    )


def _same(wanted: str, data: bytes) -> str | None:
    return None if hashlib.sha256(data).hexdigest() == wanted else "has other bytes"


def _is(wanted: str, found: str) -> str | None:
    return None if found == wanted else f"is {found}"


def _failing(look: Callable[[], str | None]) -> Iterator[str]:
    """Why a look found something wrong; an API that answers otherwise than expected is a finding as well."""
    try:
        problem = look()
    except (LabError, AssertionError) as error:
        problem = str(error).strip().splitlines()[0]
    except Exception as error:  # of any of the SDK's libraries
        problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
    if problem:
        yield problem
