"""Projects of a lab from somebody's own tree: for a new lab, on a running one, and back to the release's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, LabError, RefusedError
from labctl.lab import gc
from labctl.plan import source as changes
from labctl.plan.planner import plan, present
from labctl.progress import warn
from labctl.records.lab import Lab
from labctl.secret import reveal
from labctl.services.base import Context
from labctl.sources import build, given, tree
from labctl.sources.build import Home
from labctl.sources.given import Given, Kind
from labctl.topology.spec import LabSpec

#: Seconds between two looks at a working tree that is watched.
LOOK = 1.0
#: Its static files and its settings are made with the image.
NOT_FROM_SOURCE = ("horizon",)


def projects(spec: LabSpec) -> tuple[str, ...]:
    """The projects of a lab that can have another source."""
    return tuple(s.name for s in present(Context.of(spec)) if s.name not in NOT_FROM_SOURCE)


def read(spec: LabSpec, words: Sequence[str], within: Path) -> list[Given]:
    """What words like ``nova=/home/me/nova`` name.

    :raises LabError: one names no project of the lab, or nothing that exists, or a project is named twice.
    """
    found = [given.read(word, projects(spec), within) for word in words]
    given.one_each(found)
    return found


def chosen(spec: LabSpec, words: Sequence[str], within: Path, *, force: bool = False) -> LabSpec:
    """A lab's spec with sources of its own; their layers are built.

    :raises LabError: see :func:`labctl.sources.build.made`.
    """
    found = read(spec, words, within)
    for each in found:
        if each.kind is Kind.RELEASE:
            raise RefusedError(f"{each.text}: that is what a new lab has", f"labctl source {spec.name} {each.text}")
    if not found:
        return spec
    new = Home.of(spec)
    made = {each.project: build.made(new, spec, each, force=force) for each in found}
    return spec.model_copy(update={"sources": {**spec.sources, **made}})


def home(lab: Lab) -> Home:
    """The environment of a lab's projects: the layers that its containers stand on, and disks are made of."""
    return Home.of(lab.spec, () if lab.spec.own_kernel else lab.layers)


@dataclass(frozen=True)
class Change:
    """What a project was, and what it is now."""

    project: str
    before: str
    after: str


def change(lab: Lab, words: Sequence[str], within: Path, *, force: bool = False) -> list[Change]:
    """Give projects of a running lab another source; only their daemons are restarted. The caller holds the lock.

    The spec says so before anything is changed, so that a command that was killed is repeated by itself or by ``up``.

    :raises RefusedError: a source does not fit; nothing has changed.
    :raises BrokenLabError: a daemon does not start with it, or its API does not answer.
    """
    _whole(lab)
    wanted = read(lab.spec, words, within)
    own_home = home(lab)
    sources = dict(lab.spec.sources)
    for each in wanted:
        if each.kind is Kind.RELEASE:
            sources.pop(each.project, None)
        else:
            sources[each.project] = build.made(own_home, lab.spec, each, force=force)
    names = tuple(each.project for each in wanted)
    before, spec = Context.of(lab.spec), lab.spec.model_copy(update={"sources": sources})
    made = [Change(name, title(before.lab, name), title(spec, name)) for name in names]
    own = {name: own_home.schema(name) for name in names}
    for name in names:
        was = before.lab.sources.get(name)
        if was is not None and name not in sources and was.schema_digest != own[name]:
            warn(name, f"its tables stay as {was.title} has left them; only a snapshot would go back")
    _apply(lab, before, spec, own, names)
    _prune(names)
    return made


def watch(lab: Lab, rest: Callable[[], None] = lambda: time.sleep(LOOK)) -> Iterator[str]:
    """The projects of a lab whose working tree has been edited, each when it rests again; without end.

    :param rest: called between two looks.
    :raises RefusedError: no project of the lab is from a working tree.
    """
    places = {name: Path(s.origin) for name, s in lab.spec.sources.items() if Path(s.origin).is_dir()}
    if not places:
        raise RefusedError(
            f"no project of {lab.name} is from a working tree", f"labctl source {lab.name} PROJECT=DIRECTORY"
        )
    seen = {name: tree.stamp(place) for name, place in places.items()}
    while True:
        rest()
        for name, place in places.items():
            if (now := tree.stamp(place)) == seen[name]:
                continue
            rest()
            while (later := tree.stamp(place)) != now:  # an editor, or git, is still writing
                now = later
                rest()
            seen[name] = now
            yield name


def title(spec: LabSpec, project: str) -> str:
    """What a lab runs of a project, in few words."""
    source = spec.sources.get(project)
    return f"{source.title} from {source.origin}" if source else given.RELEASE


def _whole(lab: Lab) -> None:
    """:raises BrokenLabError: the lab did not come up to its end, so that ``up`` has to go on first."""
    if lab.journal().record("verify") is None or not all(
        lab.driver.machine(lab, node).running for node in lab.spec.nodes
    ):
        raise BrokenLabError(f"{lab.name} is not up", lab.up())


def _apply(lab: Lab, before: Context, spec: LabSpec, own: Mapping[str, str], names: tuple[str, ...]) -> None:
    ctx = Context.of(spec)
    partial = changes.changed(before, ctx, own, names)
    lab.spec = spec
    lab.save()
    engine = Engine(lab, no_guest)
    try:
        engine.connect()
        for stage in partial.stages:
            engine.do(stage)
    except LabError as error:
        back = " ".join(f"{name}={_again(before.lab, name)}" for name in names)
        ways = (f"labctl source {lab.name} {back} goes back", error.hint)
        raise BrokenLabError(error.message, "; ".join(way for way in ways if way)) from error
    finally:
        engine.close()
    _remember(lab)


def _prune(names: Sequence[str]) -> None:
    """Remove layers of edits before, which no lab and no snapshot has."""
    for name in names:
        gc.remove(list(gc.unused_images(f"source-{name}-*")))


def _again(spec: LabSpec, name: str) -> str:
    return spec.sources[name].origin if name in spec.sources else given.RELEASE


def _remember(lab: Lab) -> None:
    """Record that every stage is as the new plan has it: what differs has just been done."""
    secrets, journal = lab.secrets(), lab.journal()
    digests = {stage.name: stage.digest(lambda text: reveal(text, secrets)) for stage in plan(lab.context).stages}
    for record in journal.stages:
        record.digest = digests.get(record.name, record.digest)
    lab.save_journal(journal)
