"""Choose a lab's base: the first of its topology's that is possible here, and why no earlier one is."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import drivers, releases
from labctl.bases import runs_on
from labctl.drivers import DRIVERS
from labctl.drivers.base import Capabilities
from labctl.errors import LabError
from labctl.host import proxy
from labctl.images import media
from labctl.lab.titles import describe
from labctl.progress import note
from labctl.releases.model import PackageSource, Release
from labctl.topology import mechanism
from labctl.topology.check import first_driver
from labctl.topology.model import Mechanism, Topology, VirtType, VolumeBackend
from labctl.topology.problems import unknown
from labctl.topology.resolve import lab_name, resolve
from labctl.topology.spec import LabSpec

#: Assumed where no driver can report its machines' capabilities: VMs with a distribution's own kernel.
_MACHINES = Capabilities(
    own_kernel=True, block_devices=True, device_mapper=True, openvswitch=True, vlan=True, nested_kvm=False
)


@dataclass(frozen=True)
class Site:
    """What makes a lab's machines, and what they are there: see :class:`labctl.drivers.base.Driver`."""

    driver: str
    capabilities: Capabilities
    patience: float = 1.0
    mtu: int = 0
    cloud: str = ""


@dataclass(frozen=True)
class Choice:
    """A lab's spec, and why each earlier base of its topology is not used."""

    spec: LabSpec
    passed_over: tuple[str, ...]

    def announce(self) -> None:
        """Report the choice as progress."""
        for reason in self.passed_over:
            note("lab", reason)
        note("lab", f"{self.spec.name}: {describe(self.spec)}")


def has_datapath(spec: LabSpec) -> bool:
    """True if the kernel of a lab's nodes has Open vSwitch's datapath: a distribution's own has."""
    return spec.own_kernel or drivers.get(spec.driver, spec.cloud).capabilities().openvswitch


def obstacle(release: Release, base: str, driver: str) -> str | None:
    """Why a driver cannot create nodes with this release and base; None when it can."""
    if not runs_on(base, driver):
        return f"needs virtual machines; the driver here is {driver}"
    source = release.bases[base]
    if source is PackageSource.RDO and DRIVERS[driver].clouds:
        return "labctl uploads its own images only, and installs no distribution's on a cloud"
    if source is PackageSource.RDO and DRIVERS[driver].boxes:
        return "labctl builds no Vagrant box of it; labctl vagrant render uses the distribution's own"
    if source is PackageSource.RDO and release.rdo is not None:
        return media.missing(base, release.rdo.point_release)
    return None


def choose(
    topology: Topology,
    *,
    name: str | None = None,
    base: str | None = None,
    driver: str | None = None,
    cloud: str | None = None,
) -> Choice:
    """Resolve a topology for this machine.

    :param base: the base to use, instead of the first that is possible.
    :param cloud: the cloud that its machines are on, with a driver that needs one.
    :raises LabError: an impossible combination.
    """
    release = releases.get(topology.release)
    chosen_driver = _driver(topology, driver, base)
    chosen_base, passed_over = _base(topology, release, base, chosen_driver)
    if (cloud is not None) != DRIVERS[chosen_driver].clouds:
        takes = "needs a cloud" if cloud is None else "takes no cloud"
        raise LabError(f"the driver {chosen_driver} {takes}", "labctl up --help: --driver, --cloud")
    lab, made_by = lab_name(topology, name), drivers.get(chosen_driver, cloud or "")
    site = Site(chosen_driver, made_by.capabilities(), made_by.patience, made_by.mtu(lab), cloud or "")
    return Choice(_resolve(topology, release, lab, chosen_base, site), passed_over)


def draft(
    topology: Topology,
    *,
    name: str | None = None,
    base: str | None = None,
    driver: str | None = None,
    cloud: str | None = None,
) -> Choice:
    """The spec for display: as ``choose`` where possible, else as on a machine that could run it.

    :raises LabError: the topology does not name the base or driver.
    """
    try:
        return choose(topology, name=name, base=base, driver=driver, cloud=cloud)
    except LabError:
        release = releases.get(topology.release)
        candidates = [b for b in topology.bases if base in (None, b)]
        able = [d for d in topology.drivers if candidates and runs_on(candidates[0], d) and driver in (None, d)]
        if not able:
            raise
        return Choice(_resolve(topology, release, name, candidates[0], Site(able[0], _MACHINES, cloud=cloud or "")), ())


def _resolve(
    topology: Topology,
    release: Release,
    name: str | None,
    base: str,
    site: Site,
) -> LabSpec:
    able = site.capabilities
    chosen = mechanism.choose(topology, release, base, able.openvswitch, able.vlan)
    if chosen is Mechanism.LINUXBRIDGE and not able.vlan and mechanism.has_tags(topology):
        others = [m for m in mechanism.possible(release, base) if m is not Mechanism.LINUXBRIDGE]
        instead = f"; or options: {{mechanism: {others[0]}}} in the topology" if others else ""
        raise LabError(
            f"{topology.name} has networks with VLAN tags: linuxbridge needs a kernel with 8021q for them, which "
            "containers share with this host, and it has none",
            f"modprobe 8021q{instead}",
        )
    virt_type = topology.options.virt_type
    if virt_type is VirtType.AUTO and not able.own_kernel:  # else each node detects it, see labctl.services.virt
        virt_type = VirtType.QEMU
    return resolve(
        topology,
        name=name,
        base=base,
        driver=site.driver,
        cloud=site.cloud,
        largest_mtu=site.mtu,
        mechanism=chosen,
        userspace_datapath=chosen is not Mechanism.LINUXBRIDGE and not able.openvswitch,
        virt_type=virt_type,
        volume_backend=_volume_backend(topology, site.driver, able),
        own_kernel=able.own_kernel,
        patience=site.patience,
        package_source=release.bases[base].value,
        proxy=proxy.of_machine(),
    )


def _driver(topology: Topology, wanted: str | None, base: str | None) -> str:
    """The requested driver, else the first that can create the requested base."""
    if wanted is None:
        wanted = first_driver(topology, base)
    elif wanted not in DRIVERS:
        raise LabError(unknown("driver", wanted, DRIVERS))
    elif wanted not in topology.drivers:
        raise LabError(
            f"{topology.name} does not run on the driver '{wanted}'; supported: {', '.join(topology.drivers)}"
        )
    drivers.get(wanted)
    return wanted


def _base(topology: Topology, release: Release, wanted: str | None, driver: str) -> tuple[str, tuple[str, ...]]:
    """The base to use, and why earlier ones are not used."""
    if wanted is not None and wanted not in topology.bases:
        raise LabError(f"{topology.name} does not run on {wanted}; supported: {', '.join(topology.bases)}")
    obstacles = {base: obstacle(release, base, driver) for base in topology.bases}
    possible = [base for base, reason in obstacles.items() if reason is None]
    chosen = wanted or next(iter(possible), None)
    if chosen is None:
        reasons = "".join(f"\n  {base}: {reason}" for base, reason in obstacles.items())
        raise LabError(f"{topology.name} cannot run here{reasons}", "labctl releases; --driver, --release")
    if reason := obstacles[chosen]:
        hint = f"--base {possible[0]}" if possible else "labctl releases"
        raise LabError(f"{topology.name} cannot run on {chosen} here: {reason}", hint)
    if wanted is not None:
        return chosen, ()
    earlier = topology.bases[: topology.bases.index(chosen)]
    return chosen, tuple(f"{base} not used: {obstacles[base]}" for base in earlier)


def _volume_backend(topology: Topology, driver: str, able: Capabilities) -> VolumeBackend:
    volume_groups = able.own_kernel and able.device_mapper
    wanted = topology.options.volume_backend
    if wanted is VolumeBackend.AUTO:
        return VolumeBackend.LVM if volume_groups else VolumeBackend.NFS
    if wanted is VolumeBackend.LVM and not volume_groups:
        raise LabError(
            f"options.volume_backend is lvm, but nodes of the driver '{driver}' have no device mapper",
            "volume_backend: nfs or auto, or another driver",
        )
    return wanted
