"""From a topology to a running lab: choose, resolve, record, execute."""

from __future__ import annotations

from pathlib import Path

from labctl import drivers, releases
from labctl.engine.execute import Engine, Summary
from labctl.errors import LabError
from labctl.images import guest
from labctl.lab import paths
from labctl.lab.state import LabState, exists
from labctl.progress import note
from labctl.topology import load
from labctl.topology.model import Component, Mechanism, Topology, VirtType, VolumeBackend
from labctl.topology.resolve import resolve
from labctl.topology.spec import LabSpec


def choose_base(topology: Topology, wanted: str | None) -> str:
    """The base to use: the one asked for, or the first of the topology's that has a recipe.

    :raises LabError: none fits.
    """
    release = releases.get(topology.release)
    if wanted is not None and wanted not in topology.bases:
        raise LabError(f"{topology.name} does not run on {wanted}; it names {', '.join(topology.bases)}")
    candidates = [wanted] if wanted else list(topology.bases)
    for base in candidates:
        if base in release.bases:
            return base
    raise LabError(f"labctl has no recipe for {release.title} on {' or '.join(candidates)}")


def specify(topology: Topology, *, name: str | None, base: str | None, driver: str | None) -> LabSpec:
    """Resolve a topology for this machine.

    :raises LabError: an impossible combination.
    """
    chosen_driver = driver or topology.drivers[0]
    if chosen_driver not in topology.drivers:
        raise LabError(
            f"{topology.name} does not run on the driver '{chosen_driver}'; it names {', '.join(topology.drivers)}"
        )
    drivers.get(chosen_driver)
    chosen_base = choose_base(topology, base)
    mechanism = topology.options.mechanism
    if mechanism is Mechanism.AUTO:
        mechanism = Mechanism.LINUXBRIDGE
    virt_type = topology.options.virt_type
    if virt_type is VirtType.AUTO:
        virt_type = VirtType.QEMU
    volume_backend = topology.options.volume_backend
    able = drivers.get(chosen_driver).capabilities()
    if volume_backend is VolumeBackend.AUTO:
        volume_backend = VolumeBackend.LVM if able.own_kernel and able.device_mapper else VolumeBackend.NFS
    elif volume_backend is VolumeBackend.LVM and not (able.own_kernel and able.device_mapper):
        raise LabError(
            f"options.volume_backend is lvm, but nodes of the driver '{chosen_driver}' have no device mapper",
            "volume_backend: nfs or auto, or another driver",
        )
    return resolve(
        topology,
        name=name,
        base=chosen_base,
        driver=chosen_driver,
        mechanism=mechanism,
        virt_type=virt_type,
        volume_backend=volume_backend,
        package_source=releases.get(topology.release).bases[chosen_base].value,
    )


def read(name_or_path: str) -> tuple[Topology, Path]:
    """Load a topology by name or path."""
    path = load.find(name_or_path)
    return load.load(path), path


def open_lab(spec: LabSpec, path: Path) -> LabState:
    """The recorded lab of this name, brought to this spec, or a new one.

    :raises LabError: the name belongs to a lab of another topology, release, base or driver.
    """
    if not exists(spec.name):
        return LabState.create(spec, path)
    state = LabState.load(spec.name)
    for field in ("topology", "release", "base", "driver"):
        was, wanted = getattr(state.spec, field), getattr(spec, field)
        if was != wanted:
            raise LabError(
                f"the lab {spec.name} exists already with {field} {was}, not {wanted}",
                f"labctl down {spec.name}, or labctl up {path} --name OTHER",
            )
    if _shape(state.spec) != _shape(spec):
        raise LabError(
            f"{path} has other nodes, cards or networks than the running lab {spec.name}",
            f"labctl down {spec.name}, or labctl up {path} --name OTHER",
        )
    if state.spec != spec:
        note("lab", f"{path.name} has changed since the lab was made; bringing it to the new state")
        state.spec = spec
        state.save()
    return state


def _layout(spec: LabSpec) -> frozenset[str]:
    """Named facts of the layout that tests ask for."""
    zones = len(spec.running(Component.SWIFT_STORAGE))
    return frozenset({"swift-three-zones"} if zones >= 3 else ())


def _shape(spec: LabSpec) -> object:
    return [
        [(n.name, n.interfaces, n.disks) for n in spec.nodes.values()],
        [(n.name, n.cidr, n.gateway, n.nat) for n in spec.networks.values()],
    ]


def up(spec: LabSpec, path: Path, until: str) -> Summary:
    """Bring a lab up; the caller holds its lock.

    :raises LabError: what failed, where, and what to do.
    """
    driver = drivers.get(spec.driver)
    driver.probe()
    state = open_lab(spec, path)
    state.meta["capabilities"] = sorted(driver.capabilities().names() | _layout(spec))
    state.save()

    def guest_image() -> guest.GuestImage:
        image = guest.ensure(paths.images() / "guest", spec.fixtures.cirros)
        state.meta["guest"] = image.origin
        state.save()
        return image

    return Engine(state, driver, guest_image).up(until)
