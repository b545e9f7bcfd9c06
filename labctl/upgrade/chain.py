"""The hops of an upgrade, from the releases' facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl import bases, releases
from labctl.components import Component
from labctl.errors import LabError
from labctl.plan.planner import present
from labctl.releases.model import PackageSource, Release
from labctl.services.base import Context
from labctl.topology.mechanism import REPLACED, fitting
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.problems import unknown
from labctl.topology.resolve import with_overlay
from labctl.topology.spec import LabSpec, NodeSpec

#: Mechanism driver -> those that labctl can bring a lab's ports and networks to.
WAYS = {
    Mechanism.LINUXBRIDGE: (Mechanism.OPENVSWITCH, Mechanism.OVN),
    Mechanism.OPENVSWITCH: (Mechanism.OVN,),
}


@dataclass(frozen=True)
class Hop:
    """One step of an upgrade: a lab as it is, and as it will be, with another release, base or mechanism driver."""

    before: LabSpec
    after: LabSpec

    @property
    def release(self) -> Release:
        """The release that it leads to."""
        return releases.get(self.after.release)

    @property
    def name(self) -> str:
        """What it is known by: the release that it leads to, or what else it changes."""
        if self.after.release != self.before.release:
            return self.after.release
        return self.after.mechanism.value if self.after.mechanism is not self.before.mechanism else self.after.base

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is taken before it."""
        return f"before-{self.name}"

    @property
    def changes(self) -> tuple[tuple[str, str], ...]:
        """What differs, each as it was and as it will be."""
        old, new = self.before, self.after
        both = (
            (_title(old.release), _title(new.release)),
            (bases.TITLES[old.base], bases.TITLES[new.base]),
            (old.mechanism.value, new.mechanism.value),
        )
        return tuple((was, will) for was, will in both if was != will)

    @property
    def title(self) -> str:
        """``Caracal to Epoxy, Debian 12 to Debian 13``."""
        return ", ".join(f"{was} to {will}" for was, will in self.changes)


def _ways(start: str) -> dict[str, tuple[str, ...]]:
    """The releases that can be reached from one, each with those on the way: the fewest hops that their facts allow."""
    ways: dict[str, tuple[str, ...]] = {start: ()}
    queue = [start]
    while queue:
        here = queue.pop(0)
        for later in releases.EVERY.values():
            if later.upgrade and here in later.upgrade.after and later.name not in ways:
                ways[later.name] = (*ways[here], later.name)
                queue.append(later.name)
    return ways


def path(spec: LabSpec, target: str) -> tuple[str, ...]:
    """The releases after a lab's own up to ``target``.

    :raises LabError: there is no way; says how far one could go.
    """
    start, ways = spec.release, _ways(spec.release)
    if target in ways:
        return ways[target]
    if start in _ways(target):
        raise LabError(
            f"{_title(target)} is older than {_title(start)}: an upgrade only goes forward", "labctl releases"
        )
    release = list(ways)[-1]
    raise LabError(
        f"labctl knows no way from {_title(start)} to {_title(target)}; it can go to "
        f"{', '.join(_title(name) for name in ways if name != start) or 'no other release'}",
        f"labctl upgrade {spec.name} --to {release}" if release != start else "labctl releases",
    )


def _title(name: str) -> str:
    return releases.get(name).title


def plan(
    spec: LabSpec, target: str = "", until: str = "", mechanism: str = "", *, kernel: bool, by_hand: bool = False
) -> tuple[Hop, ...]:
    """The hops that bring a lab to a release, a mechanism driver, or both; none if it is there.

    :param target: a release, by name or number; empty: the lab's own.
    :param until: stop after the hop to this release.
    :param mechanism: the mechanism driver to have at the end; empty: any that the releases have.
    :param kernel: the nodes' kernel has Open vSwitch's datapath.
    :param by_hand: people do it, who can also upgrade what labctl cannot: virtual machines.
    :raises LabError: it cannot go there; says why, before anything is done.
    """
    wanted, last = (_named(word) for word in (target or spec.release, until or target or spec.release))
    driver = _mechanism(mechanism)
    names = path(spec, wanted)
    if last != spec.release and last not in names:
        raise LabError(
            f"{_title(last)} is not on the way: {', '.join(_title(n) for n in names)}", "labctl upgrade --help"
        )
    hops: list[Hop] = []
    here = spec
    for name in names[: names.index(last) + 1] if last in names else ():
        hops.append(Hop(here, _after(here, releases.get(name), driver, kernel)))
        here = hops[-1].after
    if driver and here.mechanism is not driver and last == wanted:
        hops.append(Hop(here, _switched(here, driver, kernel)))
    _check(spec, hops, by_hand)
    return tuple(hops)


def _check(spec: LabSpec, hops: list[Hop], by_hand: bool) -> None:
    if hops and spec.own_kernel and not by_hand:
        raise LabError(
            f"{spec.name} has virtual machines, whose disks labctl cannot put on another image; it upgrades containers",
            f"labctl info {spec.name}",
        )
    if hops and spec.sources:
        back = " ".join(f"{project}=release" for project in spec.sources)
        raise LabError(
            f"{spec.name} has sources of its own, which are of one release: {', '.join(spec.sources)}",
            f"labctl source {spec.name} {back}",
        )
    for number, hop in enumerate(hops):
        if problems := list(_obstacles(hop)):
            release = hops[number - 1].after.release
            raise LabError(
                f"{spec.name} cannot go from {hop.title}:\n" + "\n".join(f"  {p}" for p in problems),
                f"labctl upgrade {spec.name} --to {release}" if number else f"labctl info {spec.name}",
            )


def _named(word: str) -> str:
    name = releases.named(word)
    if name not in releases.EVERY:
        numbers = [r.number for r in releases.EVERY.values() if r.number]
        raise LabError(unknown("release", word, [*releases.EVERY, *numbers]), "labctl releases")
    return name


def _mechanism(word: str) -> Mechanism | None:
    known = [m.value for m in Mechanism if m is not Mechanism.AUTO]
    if word and word not in known:
        raise LabError(unknown("mechanism driver", word, known), "labctl upgrade --help")
    return Mechanism(word) if word else None


def _after(spec: LabSpec, release: Release, wanted: Mechanism | None, kernel: bool) -> LabSpec:
    """A lab as it will be with another release; base and mechanism driver stay where the release has them."""
    source = PackageSource.PYPI
    possible = [name for name in release.bases if (name, source) in bases.BASES]
    base = spec.base if spec.base in possible else next(iter(possible), spec.base)
    after = spec.model_copy(update={"release": release.name, "package_source": source.value, "base": base})
    can = [Mechanism(name) for name in release.mechanisms if name in _installed(after)]
    if spec.mechanism in can or not can:
        return after
    fits = fitting(can, (c for node in spec.nodes.values() for c in node.runs))
    return _switched(after, wanted if wanted in can else fits[0], kernel)


def _installed(spec: LabSpec) -> frozenset[str]:
    """The mechanism drivers that labctl installs on a lab's base."""
    known = bases.BASES.get((spec.base, PackageSource(spec.package_source)))
    return frozenset(known.l2_packages) if known else frozenset()


def _switched(spec: LabSpec, mechanism: Mechanism, kernel: bool) -> LabSpec:
    """A lab as it will be with another mechanism driver; OVN has no use for some agents.

    Open vSwitch's own datapath tunnels only through a card of its own: a lab without a network for that gets one.
    """

    def without(nodes: dict[str, NodeSpec]) -> dict[str, NodeSpec]:
        if mechanism is not Mechanism.OVN:
            return nodes
        return {
            name: node.model_copy(update={"runs": tuple(c for c in node.runs if c not in REPLACED)})
            for name, node in nodes.items()
        }

    made = spec.model_copy(
        update={
            "mechanism": mechanism,
            "userspace_datapath": mechanism is not Mechanism.LINUXBRIDGE and not kernel,
            "nodes": without(spec.nodes),
            "later": without(spec.later),
        }
    )
    ends = [node.name for node in (*made.nodes.values(), *made.later.values()) if node.has(Component.NEUTRON_L2)]
    alone = len(ends) < 2 or made.network(NetworkRole.OVERLAY) is not None
    return made if alone or not made.userspace_datapath else with_overlay(made, ends)


def _obstacles(hop: Hop) -> Iterator[str]:
    """Why a hop cannot be done with this lab."""
    before, after, release = hop.before, hop.after, hop.release
    if after.release != before.release:
        if before.package_source != PackageSource.PYPI.value:
            yield (
                f"its {_title(before.release)} comes from {before.package_source} packages; labctl upgrades labs whose "
                "OpenStack comes from PyPI"
            )
            return
        if (after.base, PackageSource.PYPI) not in bases.BASES or release.pypi is None:
            yield f"{release.title} from PyPI is not built for {bases.TITLES[after.base]}"
            return
    if after.mechanism.value not in release.mechanisms:
        yield f"{release.title} has no {after.mechanism.value}; it has {' and '.join(release.mechanisms)}"
    elif after.mechanism.value not in _installed(after):
        yield f"labctl installs no {after.mechanism.value} on {bases.TITLES[after.base]}"
    elif after.mechanism is not before.mechanism:
        yield from _unswitchable(before, after)
    ctx = Context.of(before)
    for service in present(ctx):
        if ctx.release.has(service.name, PackageSource.PYPI) and not release.has(service.name, PackageSource.PYPI):
            yield f"labctl has no {service.name} for {release.title}; this lab runs it"


def _unswitchable(before: LabSpec, after: LabSpec) -> Iterator[str]:
    """Why ports and networks cannot pass to another mechanism driver."""
    old, new = before.mechanism, after.mechanism
    if new not in WAYS.get(old, ()):
        ways = "; ".join(f"from {was.value} to {' and '.join(w.value for w in will)}" for was, will in WAYS.items())
        yield f"labctl brings no lab from {old.value} to {new.value}; it does {ways}"
    elif after.userspace_datapath:
        if not bases.get(after.base, after.package_source).userspace_tunnels:
            yield (
                f"its projects' networks are tunnels, which Open vSwitch of {bases.TITLES[after.base]} does not carry "
                "in containers"
            )
        ends = [node for node in after.nodes.values() if node.has(Component.NEUTRON_L2)]
        if len(ends) > 1 and (cut := [n.name for n in ends if after.interface(n, NetworkRole.OVERLAY) is None]):
            yield (
                "Open vSwitch's own datapath tunnels only through a card of the overlay network, which "
                f"{' and '.join(cut)} {'have' if len(cut) > 1 else 'has'} not"
            )
