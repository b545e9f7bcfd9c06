"""Upgrade a lab, hop by hop: each begins with a snapshot and ends with the proof that everything is alive.

What has been done is in ``labs/LAB/upgrade/state.json``: a command that was killed goes on with the step it was in.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl import releases
from labctl.engine import health
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, LabError, NoSpaceError
from labctl.host import files, paths, sparse
from labctl.host.namespace import Inside
from labctl.images import golden, store
from labctl.lab import fit, snapshot, up
from labctl.lab.repair import repair
from labctl.nightly.steps import Steps, said
from labctl.operations.openstack import CatalogEntry
from labctl.plan import hop as hops
from labctl.plan.planner import Plan, plan
from labctl.progress import note, step
from labctl.records import access
from labctl.records.journal import Journal
from labctl.records.lab import Lab
from labctl.services.base import Context
from labctl.testing import junit
from labctl.testing.waits import be_patient
from labctl.topology.units import show_size
from labctl.upgrade.chain import Hop
from labctl.upgrade.estate import Estate
from labctl.upgrade.prober import Prober
from labctl.upgrade.rebase import rebase
from labctl.upgrade.record import STEPS, HopRecord, State, directory, load, place

#: Seconds for the smoke tests of a release.
SMOKE = 3600
#: Bytes of a release's image: its environment has 0.6 to 1.1 GiB; another base brings half as much again.
IMAGE = 2 * 2**30
#: Snapshots that are there at once when none is kept: those of the first hop, of the last one, and of the one before.
KEPT = 3


class Upgrade:
    """The upgrade of one lab, whose lock the caller holds."""

    def __init__(self, lab: Lab, wanted: str, hops: tuple[Hop, ...], *, keep: bool = False) -> None:
        """:param wanted: the command's options that say where it goes.

        :param keep: keep the snapshots of all hops, not only those of the first and the last.
        """
        self.lab = lab
        self.hops = hops
        self._keep = keep
        self._estate = Estate(directory(lab), access.load(lab.name))
        self.state = self._resumed(load(lab), wanted)
        going = self.state.going
        #: A hop whose end the lab already has, but that is not proven yet.
        self._open: Hop | None = None
        if going and place(lab.spec) == going.to:
            self._open = Hop(snapshot.find(lab, going.snapshot).spec, lab.spec)

    def _resumed(self, known: State | None, wanted: str) -> State:
        """What an earlier command has done of this chain: hops that end where the lab is, and one that is open."""
        done = [hop for hop in known.hops if hop.finished] if known else []
        going = known.going if known else None
        here = place(self.lab.spec)
        if going and going.to != here:
            if "switch" in going.seconds:
                going = None  # the lab was restored
            elif "snapshot" in going.seconds and self._running():
                del going.seconds["snapshot"]  # it was started again, and has changed since
        if going is None or going.to != here:
            while done and done[-1].to != here:
                done.pop()
        return State(wanted=wanted, hops=[*done, *([going] if going else [])])

    def _running(self) -> bool:
        return all(self.lab.driver.machine(self.lab, node).running for node in self.lab.spec.nodes)

    def run(self) -> State:
        """Do every hop that is left.

        :raises LabError: a step failed; says what still works, how to go on, and how to go back.
        """
        be_patient(self.lab.driver.patience)
        self._room()
        files.make_directories(directory(self.lab), 0o700)
        with up.proxied(self.lab):
            for hop in self.hops:
                self._image(hop)
            for hop in ((self._open,) if self._open else ()) + self.hops:
                self._hop(hop)
        return self.state

    def _room(self) -> None:
        """Check that images and snapshots fit on the disk.

        :raises NoSpaceError: they do not.
        """
        lab = self.lab
        made = [hop for hop in self.hops if not golden.there(hop.after.base, hop.after.release)]
        kept = len(self.hops) if self._keep else min(len(self.hops), KEPT)
        copied = sparse.used(*lab.top.glob("*/disks"), lab.top / "shared") + snapshot.ROOM * len(lab.spec.nodes)
        needed, free = len(made) * IMAGE + kept * copied, shutil.disk_usage(paths.home()).free
        if needed > free:
            raise NoSpaceError(
                f"{paths.home()} has {show_size(free)} free; the {len(self.hops)} hops of {lab.name} need about "
                f"{show_size(needed)}: {len(made)} images that are not there, and {kept} snapshots"
            )

    def _image(self, hop: Hop) -> tuple[Path, ...]:
        return golden.ensure(hop.after.base, hop.after.package_source, hop.after.release)

    # --- one hop ----------------------------------------------------------------------------------

    def _hop(self, hop: Hop) -> None:
        known = self.state.going
        if known is None or known.to != place(hop.after):
            known = HopRecord(name=hop.name, to=place(hop.after), title=hop.title, snapshot=hop.snapshot)
            self.state.hops.append(known)
        self._save()
        before = Context.of(hop.before)
        made = hops.hop(before, Context.of(hop.after))
        note("upgrade", f"{self.lab.name}: {hop.title}")
        with self._failing(hop, known):
            self._step(known, "migrations", lambda: self._migrate(before))
            self._step(known, "health", self._healthy)
            self._step(known, "estate", self._made)
            if "alive" not in known.seconds:
                with self._probed(known):
                    self._step(known, "snapshot", lambda: self._snapshot(hop))
                    self._step(known, "switch", lambda: self._switch(hop, plan(before), made))
                    self._step(known, "converge", lambda: self._converge(made))
                    self._step(known, "alive", lambda: self._alive(known))
            self._step(known, "smoke", lambda: self._smoke(known))
        self._open = None
        self._tidy()

    def _step(self, known: HopRecord, name: str, work: Callable[[], None]) -> None:
        if name in known.seconds:
            return
        began = time.monotonic()
        try:
            work()
            known.seconds[name] = round(time.monotonic() - began, 1)
        finally:  # what a failed check found is in the report, too
            self._save()

    def _save(self) -> None:
        files.write_atomic(directory(self.lab) / "state.json", self.state.model_dump_json(indent=1))

    @contextmanager
    def _failing(self, hop: Hop, known: HopRecord) -> Iterator[None]:
        """Say what of the old release still works, and the two ways on."""
        try:
            yield
        except LabError as error:
            doing = next(name for name in STEPS if name not in known.seconds)
            name, old = self.lab.name, hop.changes[0][0]
            on = f"labctl upgrade {name} {self.state.wanted}"
            back = f"labctl snapshot restore {name} {hop.snapshot}"
            if place(self.lab.spec) == place(hop.before):
                still = f"{name} still has {old}" + ("" if self._running() else ", stopped")
                ways = f"mend it, then: {on}"
            else:
                still = f"{old} does not run any more; all its data are in the snapshot {hop.snapshot}"
                ways = f"mend it, then: {on}; or go back: {back}"
            more = f"\nto look at it: {error.hint}" if error.hint else ""
            raise BrokenLabError(f"{hop.title}, {doing}: {error.message}\n{still}{more}", ways) from error

    @contextmanager
    def _inside(self) -> Iterator[Inside]:
        with Inside(self.lab.namespace, self.lab.hosts_file) as inside:
            yield inside

    @contextmanager
    def _probed(self, known: HopRecord) -> Iterator[None]:
        """Ask the APIs and the guest meanwhile; keep the gaps."""
        record = self._estate.record()
        targets = {o.type: _root(o.url) for o in _entries(self.lab.plan)}
        targets = {"identity": f"{self.lab.context.auth_url}/v3", **targets, "guest": f"tcp://{record.address}:22"}
        prober = Prober(self.lab.namespace, self.lab.hosts_file, targets)
        try:
            with prober:
                yield
        finally:  # of a hop that failed, too: it goes on later
            for name, gaps in prober.gaps.items():
                known.gaps[name] = round(known.gaps.get(name, 0.0) + gaps.total, 1)
            self._save()

    def _migrate(self, before: Context) -> None:
        """Finish the data migrations of the release that the lab has."""
        engine = Engine(self.lab, no_guest)
        try:
            engine.connect()
            engine.do(hops.migrations(before))
        finally:
            engine.close()

    def _healthy(self) -> None:
        with step("lab", f"{self.lab.name} is healthy"):
            if ailments := health.check(self.lab):
                said = "\n".join(f"  {ailment}" for ailment in ailments)
                raise BrokenLabError(f"{self.lab.name} is not healthy:\n{said}", f"labctl diagnose {self.lab.name}")

    def _made(self) -> None:
        with step("upgrade", "the estate"), self._inside() as inside:
            inside.call(self._estate.ensure)

    def _snapshot(self, hop: Hop) -> None:
        """Freeze the lab; its machines stay stopped."""
        lab = self.lab
        if hop.snapshot in lab.meta["snapshots"]:
            if not self._running():  # labctl was killed right after it
                return
            snapshot.delete(lab, hop.snapshot)
        if not self._running():  # labctl was killed while it stopped them, and daemons of others have met that
            repair(lab)
        snapshot.take(lab, hop.snapshot)

    def _switch(self, hop: Hop, before: Plan, after: Plan) -> None:
        """Put the machines on the new release's image; the lab's record says so first."""
        lab = self.lab
        lab.save_journal(Journal())
        with step("lab", f"machines of {hop.release.title}"):
            with store.keeping():
                layers = self._image(hop)
                lab.spec = hop.after
                lab.meta.setdefault(fit.UPGRADED, {field: getattr(hop.before, field) for field in fit.IDENTITY})
                lab.record_image(layers)
            lab.driver.rest(lab, 0)  # a killed switch may have mounted them
            lab.driver.create_network(lab)
            old = [Path(layer) for layer in snapshot.find(lab, hop.snapshot).facts["image"]]
            rebase(lab, old, before, after)
        snapshot.wake(lab)

    def _converge(self, made: Plan) -> None:
        until = made.stages[-1].name
        Engine(self.lab, up.guest_image(self.lab)).up(until, made)

    def _alive(self, known: HopRecord) -> None:
        with step("upgrade", "the estate is alive"), self._inside() as inside:
            found = inside.call(self._estate.look)
        known.estate = "alive" if not found else "; ".join(found)
        if found:
            raise BrokenLabError("the estate is not what it was:\n" + "\n".join(f"  {line}" for line in found))

    def _smoke(self, known: HopRecord) -> None:
        where = directory(self.lab)
        log, report = where / f"smoke-{known.name}.log", where / f"smoke-{known.name}.xml"
        files.erase(report)
        words = ["test", self.lab.name, "--smoke", "--junit", str(report)]
        with step("upgrade", f"smoke tests of {releases.get(known.to.release).title}"):
            done = Steps(lambda: False).run(words, log, SMOKE * self.lab.driver.patience)
        cases = junit.read(report) if report.exists() else []
        known.smoke = junit.counts(cases) or "no tests ran"
        if not done.good or not cases:
            raise BrokenLabError(junit.failures(cases) or f"the smoke tests failed: {said(log)}", f"less {log}")

    def _tidy(self) -> None:
        """Drop the snapshots of hops that are proven; the first one is the way back to where it all began."""
        done = [hop.snapshot for hop in self.state.hops if hop.finished]
        if not self._keep:
            for name in done[1:-1]:
                if name in self.lab.meta["snapshots"]:
                    snapshot.delete(self.lab, name)


def _root(url: str) -> str:
    """The address of an API without the parts that need a token."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def _entries(made: Plan) -> Iterator[CatalogEntry]:
    for stage in made.stages:
        yield from (operation for operation in stage.api if isinstance(operation, CatalogEntry))
