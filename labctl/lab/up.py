"""From a topology to a running lab: read, record, execute."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from labctl import drivers
from labctl.components import Component
from labctl.engine.converge import Engine, Summary
from labctl.errors import LabError
from labctl.host import files, paths, proxy, threads
from labctl.images import guest
from labctl.lab import down as teardown
from labctl.lab import fault, origin, snapshot
from labctl.lab.condition import condition
from labctl.lab.fit import IDENTITY, UPGRADED, require_fit
from labctl.lab.titles import describe
from labctl.progress import note, warn
from labctl.records import hints, lease
from labctl.records.directory import exists, half_removed
from labctl.records.lab import Lab
from labctl.secret import names, reveal
from labctl.topology.join import kept
from labctl.topology.spec import LabSpec
from labctl.topology.stages import STAGES

#: Names the directory of a command from another machine (``labctl.remote``).
VISIT = "LABCTL_VISIT"


def grown(spec: LabSpec) -> LabSpec:
    """A newly chosen spec, plus the nodes that joined the recorded lab of its name, if there is one."""
    if not exists(spec.name):
        return spec
    before = Lab.load(spec.name).spec
    return kept(spec, before) if all(getattr(before, f) == getattr(spec, f) for f in IDENTITY) else spec


def open_lab(spec: LabSpec, path: Path, terms: lease.Terms = lease.UNSAID) -> Lab:
    """The recorded lab of this name, updated to this spec plus the nodes that joined it, or a new one.

    One that was upgraded is no longer what its topology says, and stays as it is.

    :raises RefusedError: the name belongs to a lab of another topology, release, base or driver.
    """
    if not exists(spec.name):
        return Lab.create(spec, path, terms)
    lab = Lab.load(spec.name)
    hint = f"labctl down {spec.name}; {hints.up(spec, path, 'NAME')} creates another lab"
    require_fit(spec, path, lab.spec, lab.meta, (f"the lab {spec.name}", "already exists with", hint))
    lease.renew(lab, terms)
    if lab.meta.get(UPGRADED):
        note("lab", f"{spec.name} was upgraded ({describe(lab.spec)}); it stays so, and {path.name} is not applied")
        return lab
    spec = kept(spec, lab.spec)
    if lab.spec != spec:
        note("lab", f"{path.name} has changed since the lab was created; updating the lab")
        lab.spec = spec
        lab.save()
    return lab


def _keep(lab: Lab, path: Path) -> None:
    """Keep a topology that came with a command from another machine: its directory goes with the command."""
    visit = os.environ.get(VISIT)
    if visit and path.resolve().is_relative_to(visit):
        kept = lab.directory / "topology.yaml"
        files.copy(path, kept)
        lab.meta["topology_file"] = str(kept)
        lab.save()


def _layout(spec: LabSpec) -> frozenset[str]:
    """Named facts of the layout that tests check for."""
    zones = len(spec.running(Component.SWIFT_STORAGE))
    return frozenset({"swift-three-zones"} if zones >= 3 else ())


def settled(spec: LabSpec) -> bool:
    """True for a lab that is up as this spec says, whose machines run, or do not because of a fault."""
    if not exists(spec.name):
        return False
    lab = Lab.load(spec.name)
    stages = lab.journal().stages
    same = spec.model_copy(update={"sources": lab.spec.sources}) == lab.spec
    finished = bool(stages) and stages[-1].name == lab.plan.stages[-1].name
    return same and finished and (not condition(lab)[1] or bool(fault.active(lab)))


def up(spec: LabSpec, path: Path, until: str, start: str = "", terms: lease.Terms = lease.UNSAID) -> Summary:
    """Bring a lab up; the caller holds its lock.

    :param start: a snapshot of it, or the file or URL of an exported one, that it begins from.
    :param terms: its owner and its lease, which are recorded before anything is done.
    :raises LabError: what failed, where, and what to do.
    """
    driver = drivers.get(spec.driver, spec.cloud)
    driver.probe()
    if half_removed(spec.name):
        note("lab", f"an earlier {spec.name} was only half removed; removing the rest")
        teardown.down(spec.name)
    if start:
        origin.begin(spec, path, start)
    lab = open_lab(spec, path, terms)
    _keep(lab, path)
    snapshot.sweep(lab)
    try:
        fault.heal_all(lab, start=False)
    except LabError as error:  # the stages may fix it anyway
        warn("lab", error.message)
    return converge(lab, until)


#: Seconds for the guest image: a download, or a build on a machine that is busy with the rest of the lab.
GUEST = 1800


def guest_image(lab: Lab, until: str = "verify") -> Callable[[], guest.GuestImage]:
    """The image of the lab's guests, for its uploader: built in parallel with the stages when a lab needs it."""

    def make() -> guest.GuestImage:
        return guest.ensure(paths.images() / "guest", lab.spec.fixtures.cirros)

    comes = STAGES.index(until) >= STAGES.index("fixtures") and not lab.journal().record("fixtures")
    ahead = threads.started(make) if comes and lab.spec.has(Component.GLANCE) else None

    def image() -> guest.GuestImage:
        made = make() if ahead is None else threads.result(ahead, GUEST)
        lab.meta["guest"] = made.origin
        lab.save()
        return made

    return image


def converge(lab: Lab, until: str = "verify") -> Summary:
    """Converge a recorded lab to its spec; the caller holds its lock.

    :raises LabError: what failed, where, and what to do.
    """
    lab.meta["patience"] = lab.driver.patience
    lab.meta["capabilities"] = sorted(lab.driver.capabilities().names() | _layout(lab.spec))
    lab.save()

    def checkpoint(stage: str) -> None:
        snapshot.create(lab, stage, stage=stage)

    with proxied(lab):
        return Engine(lab, guest_image(lab, until), checkpoint).up(until)


def proxied(lab: Lab) -> AbstractContextManager[None]:
    """While it lasts, packages come through the lab's proxy, if it has one."""
    return proxy.of_lab(reveal(lab.spec.proxy, lab.ensure_secrets(names(lab.spec.proxy))))
