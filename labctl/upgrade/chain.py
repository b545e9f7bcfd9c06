"""The hops of an upgrade, from the releases' facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl import bases, releases
from labctl.errors import LabError
from labctl.plan.planner import present
from labctl.releases.model import PackageSource, Release
from labctl.services.base import Context
from labctl.topology.problems import unknown
from labctl.topology.spec import LabSpec


@dataclass(frozen=True)
class Hop:
    """One step of an upgrade: a lab as it is, and as it will be."""

    before: LabSpec
    after: LabSpec

    @property
    def release(self) -> Release:
        """The release that it leads to."""
        return releases.get(self.after.release)

    @property
    def snapshot(self) -> str:
        """The name of the snapshot that is taken before it."""
        return f"before-{self.after.release}"

    @property
    def title(self) -> str:
        """``Train to Ussuri``."""
        return f"{releases.get(self.before.release).title} to {self.release.title}"


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


def plan(spec: LabSpec, target: str, until: str = "") -> tuple[Hop, ...]:
    """The hops that bring a lab to a release; none if it is there.

    :param until: stop after this one.
    :raises LabError: it cannot go there; says why, before anything is done.
    """
    wanted, last = (_named(word) for word in (target, until or target))
    if wanted == spec.release:
        return ()
    names = path(spec, wanted)
    if last not in names:
        raise LabError(
            f"{_title(last)} is not on the way: {', '.join(_title(n) for n in names)}", "labctl upgrade --help"
        )
    hops: list[Hop] = []
    here = spec
    for name in names[: names.index(last) + 1]:
        hop = Hop(here, _after(here, releases.get(name)))
        hops.append(hop)
        here = hop.after
    if spec.own_kernel:
        raise LabError(
            f"{spec.name} has virtual machines, whose disks labctl cannot put on another image; it upgrades containers",
            f"labctl info {spec.name}",
        )
    for number, hop in enumerate(hops):
        if problems := list(_obstacles(hop)):
            release = hops[number - 1].after.release
            raise LabError(
                f"{spec.name} cannot be upgraded to {hop.release.title}:\n" + "\n".join(f"  {p}" for p in problems),
                f"labctl upgrade {spec.name} --to {release}" if number else f"labctl info {spec.name}",
            )
    return tuple(hops)


def _named(word: str) -> str:
    name = releases.named(word)
    if name not in releases.EVERY:
        raise LabError(unknown("release", word, [*releases.EVERY, *releases.NUMBERS]), "labctl releases")
    return name


def _after(spec: LabSpec, release: Release) -> LabSpec:
    """A lab as it will be with another release: everything else stays."""
    return spec.model_copy(update={"release": release.name, "package_source": PackageSource.PYPI.value})


def _obstacles(hop: Hop) -> Iterator[str]:
    """Why a hop cannot be done with this lab."""
    before, after, release = hop.before, hop.after, hop.release
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
    elif after.mechanism.value not in bases.get(after.base, after.package_source).l2_packages:
        yield f"labctl installs no {after.mechanism.value} on {bases.TITLES[after.base]}"
    ctx = Context.of(before)
    for service in present(ctx):
        if ctx.release.has(service.name, PackageSource.PYPI) and not release.has(service.name, PackageSource.PYPI):
            yield f"labctl has no {service.name} for {release.title}; this lab runs it"
