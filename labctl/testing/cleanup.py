"""Delete a project and everything in it: continue past errors, then report what is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import NotFoundException

from labctl.errors import LabError
from labctl.records import cloud
from labctl.testing.projects import Project
from labctl.testing.resources import Net
from labctl.testing.waits import wait_for

SERVERS_GONE = 180  # seconds
STACKS_GONE = 300
VOLUMES_GONE = 180

KINDS = ("compute", "network", "block-storage", "image", "object-store", "orchestration")
COMPUTE, NETWORK, VOLUMES, IMAGES, OBJECTS, STACKS = KINDS
#: Catalog types of block storage whose version the SDK knows.
VOLUME_TYPES = ("volumev3", "block-storage", "block-store")
#: Where resources made through a service may be: a server comes with ports, volumes and images, and a volume can
#: become an image. Stacks, and services that are not listed here, can create anything.
MADE_IN: dict[str, tuple[str, ...]] = {
    "identity": (),
    "placement": (),
    COMPUTE: (COMPUTE, NETWORK, VOLUMES, IMAGES),
    NETWORK: (NETWORK,),
    **dict.fromkeys(VOLUME_TYPES, (VOLUMES, IMAGES)),
    IMAGES: (IMAGES,),
    OBJECTS: (OBJECTS,),
}


class LeftBehindError(LabError):
    """Clean-up could not remove something of a test's project."""


@dataclass
class Sweep:
    """Runs the steps of a clean-up in sequence and collects their errors."""

    problems: list[str] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Run one step; a resource that is already gone counts as deleted."""
        try:
            action()
        except NotFoundException:
            pass
        except Exception as error:  # clean-up continues; every problem is reported at the end
            self.problems.append(f"{what}: {type(error).__name__}: {error}")

    def listed(self, what: str, source: Callable[[], Iterable[Any]]) -> list[Any]:
        """The resources of one kind; a failed listing counts as a problem and gives none."""
        try:
            return list(source())
        except Exception as error:  # as above
            self.problems.append(f"list of {what}: {type(error).__name__}: {error}")
            return []

    def remove(
        self,
        kind: str,
        source: Callable[[], Iterable[Any]],
        delete: Callable[[Any], object],
        gone_within: float | None = None,
    ) -> None:
        """Delete every resource of a kind; where deletion takes time, wait until none is listed."""
        found = self.listed(kind, source)
        for resource in found:
            self.attempt(f"{kind} {resource.name or ''} {resource.id}", partial(delete, resource))
        if found and gone_within is not None:
            # a deletion that ends in an error state runs into the deadline: such a resource never disappears
            self.attempt(
                f"{kind} not gone",
                lambda: wait_for(
                    f"deletion of {kind}",
                    lambda: [f"{r.id} {r.status}" for r in source()],
                    done=lambda left: not left,
                    failed=_all_failed,
                    deadline=gone_within,
                ),
            )


def _all_failed(left: list[str]) -> str | None:
    states = [line.split(" ", 1)[1].lower() for line in left]
    if states and all(state in ("error_deleting", "delete_failed") for state in states):
        return "; ".join(left)
    return None


def _delete_stack(user: Connection, stack: Any) -> None:
    user.orchestration.delete_stack(stack.id)


def _stacks(user: Connection) -> list[Any]:
    return [s for s in user.orchestration.stacks() if s.status != "DELETE_COMPLETE"]


def _detach_router(admin: Connection, router: Any) -> None:
    for port in admin.network.ports(device_id=router.id):
        if port.device_owner != "network:router_gateway":
            admin.network.remove_interface_from_router(router, port=port.id)
    admin.network.delete_router(router)


def _empty_container(user: Connection, container: Any) -> None:
    for item in user.object_store.objects(container.name):
        user.object_store.delete_object(item.name, container=container.name)
    user.object_store.delete_container(container.name)


def _own(found: Iterable[Any], project_id: str) -> list[Any]:
    # Where a release ignores the filter, an administrator's list has everybody's resources: never trust it alone.
    return [resource for resource in found if resource.project_id == project_id]


def _unchanged(router: Any, keep: Net) -> None:
    """Find the test that changed the network which later tests use, instead of the one that misses something."""
    gateway = router and (router.external_gateway_info or {}).get("network_id")
    if gateway != keep.external:
        raise LeftBehindError(
            f"router {keep.router.id} has the gateway {gateway}, and had {keep.external}: "
            "a test that changes a network must use one of its own"
        )


def _networking(sweep: Sweep, admin: Connection, project_id: str, keep: Net | None = None) -> None:
    net = admin.network
    mine = {"project_id": project_id}
    kept = {keep.network.id, keep.subnet.id, keep.router.id} if keep else set()

    def own(listed: Callable[..., Iterable[Any]]) -> Iterable[Any]:
        return (found for found in _own(listed(**mine), project_id) if found.id not in kept)

    sweep.remove("floating IPs", lambda: own(net.ips), net.delete_ip)
    sweep.remove("routers", lambda: own(net.routers), lambda r: _detach_router(admin, r))
    if keep:
        sweep.attempt("network of later tests", lambda: _unchanged(net.find_router(keep.router.id), keep))
    sweep.remove(
        "ports",
        lambda: (port for port in own(net.ports) if not (port.device_owner or "").startswith("network:")),
        net.delete_port,
    )
    sweep.remove("subnets", lambda: own(net.subnets), net.delete_subnet)
    sweep.remove("networks", lambda: own(net.networks), net.delete_network)


def _offered(user: Connection) -> set[str]:
    """The kinds of service in a user's catalog that the SDK finds."""
    types = {service["type"] for service in cloud.catalog(user)}
    if not types.isdisjoint(VOLUME_TYPES):
        types.add(VOLUMES)
    return types.intersection(KINDS)


def _contents(
    sweep: Sweep,
    admin: Connection,
    project: Project,
    keep: Net | None = None,
    spared: str = "",
    within: Collection[str] = KINDS,
) -> None:
    """Delete what the project holds, except the network to keep and the security group named ``spared``.

    :param within: the kinds of service to look in.
    """
    user = project.connection
    kinds: set[str] = set()
    sweep.attempt("user's catalog", lambda: kinds.update(_offered(user).intersection(within)))
    if STACKS in kinds:
        sweep.remove("stacks", lambda: _stacks(user), lambda s: _delete_stack(user, s), STACKS_GONE)
    if COMPUTE in kinds:
        compute = user.compute
        # without details: with details nova asks neutron for every server's security groups
        sweep.remove("servers", lambda: compute.servers(details=False), compute.delete_server, SERVERS_GONE)
    if NETWORK in kinds:
        _networking(sweep, admin, project.id, keep)
    if VOLUMES in kinds:
        storage = user.block_storage
        sweep.remove("snapshots", lambda: storage.snapshots(), storage.delete_snapshot, VOLUMES_GONE)
        sweep.remove("volumes", lambda: storage.volumes(), storage.delete_volume, VOLUMES_GONE)
    if IMAGES in kinds:
        image = user.image
        sweep.remove("images", lambda: image.images(owner=project.id), image.delete_image)
    if COMPUTE in kinds:
        compute = user.compute
        sweep.remove("key pairs", lambda: compute.keypairs(), lambda k: compute.delete_keypair(k.name))
    if NETWORK in kinds:
        net = admin.network
        sweep.remove(
            "security groups",
            lambda: (g for g in _own(net.security_groups(project_id=project.id), project.id) if g.name != spared),
            net.delete_security_group,
        )
    if OBJECTS in kinds:
        sweep.remove("containers", lambda: user.object_store.containers(), lambda c: _empty_container(user, c))


def _told(sweep: Sweep, project: Project) -> None:
    if sweep.problems:
        raise LeftBehindError(
            f"project {project.name} ({project.id}) was not cleaned up:\n  " + "\n  ".join(sweep.problems)
        )


def empty(admin: Connection, project: Project, keep: Net | None = None) -> None:
    """Delete what the project holds, except its user, its default security group and the network to keep.

    Checks only services where the project's user or the administrator has changed something since the last call: on
    slow labs thirteen listings take a minute. What was made through other connections is left to :func:`destroy`.

    :raises LeftBehindError: lists everything that could not be removed.
    """
    users = (admin, project.connection)
    within = {kind for service in cloud.changed(*users) for kind in MADE_IN.get(service, KINDS)}
    sweep = Sweep()
    if within:
        _contents(sweep, admin, project, keep, spared="default", within=within)
    _told(sweep, project)
    cloud.forget_changes(*users)


def destroy(admin: Connection, project: Project) -> None:
    """Delete the project, its user and everything in it.

    Neutron is cleaned up as administrator: only the administrator may delete a default security group.

    :raises LeftBehindError: lists everything that could not be removed.
    """
    sweep = Sweep()
    _contents(sweep, admin, project)
    sweep.attempt(f"user {project.user}", lambda: cloud.identity(admin).delete_user(project.user_id))
    sweep.attempt(f"project {project.name}", lambda: cloud.identity(admin).delete_project(project.id))
    _told(sweep, project)
