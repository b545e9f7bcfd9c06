"""An upgrade goes on after a kill in any step, goes back with a snapshot, and says what still works."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from commandline import Labctl
from support import SMALL, specify, write

from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, NoSpaceError, RefusedError
from labctl.host import files, proxy
from labctl.lab import snapshot
from labctl.lab import up as bring
from labctl.nightly.steps import Outcome
from labctl.plan.planner import Plan
from labctl.records.lab import Lab, locked
from labctl.services.base import Context
from labctl.testing import junit
from labctl.upgrade import chain, run
from labctl.upgrade import rebase as rebasing
from labctl.upgrade.record import STEPS, load
from labctl.upgrade.run import Upgrade


class KilledError(BaseException):
    """labctl ends here, as if killed: nothing is cleaned up."""


def smoked(*cases: tuple[str, str]) -> Callable[..., Outcome]:
    """Instead of ``labctl test LAB --smoke --junit FILE``: it writes these results, or nothing."""

    def run(self: run.Steps, words: Sequence[str], log: Path, timeout: float) -> Outcome:
        log.write_text("Error: the suite cannot begin\n")
        if cases:
            junit.write(Path(words[-1]), [("e2e", [junit.Case(name, outcome, 1.0, "why") for name, outcome in cases])])
        good = bool(cases) and all(outcome != "failed" for _, outcome in cases)
        return Outcome(0 if good else 1, False, 1.0, 1.0, log)

    return run


@pytest.fixture
def lab(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab of Train, and what an upgrade asks of real labs answered here."""

    def layers(base: str, source: str, release: str) -> tuple[Path, ...]:
        return (tmp_path / f"image-{release}",)

    monkeypatch.setattr(run.golden, "ensure", layers)
    monkeypatch.setattr(run.access, "load", lambda name: SimpleNamespace())
    monkeypatch.setattr(Upgrade, "_made", lambda self: None)
    monkeypatch.setattr(Upgrade, "_alive", lambda self, known: setattr(known, "estate", "alive"))
    monkeypatch.setattr(run.Steps, "run", smoked(("test_a", "passed"), ("test_b", "skipped")))
    monkeypatch.setattr(Upgrade, "_probed", lambda self, known: nullcontext())
    path = write(tmp_path, SMALL.replace("release: zed", "release: train"))
    made = Lab.create(specify(path), path)
    Engine(made, no_guest).up()
    return made


def upgrade(target: str = "victoria", until: str = "", *, keep: bool = False) -> run.State:
    """The upgrade as a process of its own does it."""
    lab = Lab.load("small")
    return Upgrade(lab, f"--to {target}", chain.plan(lab.spec, target, until, kernel=False), keep=keep).run()


def test_every_hop_begins_with_a_snapshot_and_ends_proven(lab: Lab) -> None:
    state = upgrade()
    assert [(hop.name, hop.estate, hop.smoke) for hop in state.hops] == [
        ("ussuri", "alive", "1 passed, 1 skipped"),
        ("victoria", "alive", "1 passed, 1 skipped"),
    ]
    assert all(tuple(hop.seconds) == STEPS for hop in state.hops)
    now = Lab.load("small")
    assert now.spec.release == "victoria"
    assert now.layers[0].name == "image-victoria"
    assert [s.name for s in snapshot.snapshots(now)] == ["before-ussuri", "before-victoria"]
    assert [s.spec.release for s in snapshot.snapshots(now)] == ["train", "ussuri"]


def test_snapshots_between_the_first_and_the_last_hop_go_unless_they_are_kept(lab: Lab) -> None:
    upgrade("yoga")
    kept = [s.name for s in snapshot.snapshots(Lab.load("small"))]
    assert kept == ["before-ussuri", "before-yoga"]
    snapshot.restore(Lab.load("small"), "before-ussuri")
    upgrade("xena", keep=True)
    kept = [s.name for s in snapshot.snapshots(Lab.load("small"))]
    assert set(kept) >= {f"before-{name}" for name in ("ussuri", "victoria", "wallaby", "xena")}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_killed_hop_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch, step: str, when: str) -> None:
    kept: Callable[..., None] = Upgrade._step

    def killed(self: Upgrade, known: object, name: str, work: Callable[[], None]) -> None:
        if name == step:
            if when == "after":
                work()
            raise KilledError
        kept(self, known, name, work)

    with monkeypatch.context() as patch:
        patch.setattr(Upgrade, "_step", killed)
        with pytest.raises(KilledError):
            upgrade("ussuri")
    state = upgrade("ussuri")
    assert [hop.name for hop in state.hops] == ["ussuri"]
    assert tuple(state.hops[0].seconds) == STEPS
    now = Lab.load("small")
    assert now.spec.release == "ussuri"
    assert now.layers[0].name == "image-ussuri"
    assert all(now.driver.machine(now, node).running for node in now.spec.nodes)
    assert snapshot.find(now, "before-ussuri").spec.release == "train"


@pytest.mark.parametrize(
    ("cases", "smoke", "says"),
    [
        ([("test_a", "passed"), ("test_b", "failed")], "1 failed, 1 passed", "1 of 2 tests failed:\ne2e.test_b"),
        ([], "no tests ran", "the smoke tests failed: Error: the suite cannot begin"),
    ],
)
def test_a_smoke_test_that_fails_is_named_and_asked_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, cases: list[tuple[str, str]], smoke: str, says: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run.Steps, "run", smoked(*cases))
        with pytest.raises(BrokenLabError) as caught:
            upgrade("ussuri")
    assert says in caught.value.message
    assert load(Lab.load("small")).hops[0].smoke == smoke
    assert upgrade("ussuri").hops[0].smoke == "1 passed, 1 skipped"


def test_a_hop_that_was_killed_while_machines_stopped_begins_with_a_whole_lab_again(
    lab: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(lab: Lab, seconds: float) -> None:
        fake.stop(lab, "second", seconds)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(fake, "rest", killed)
        with pytest.raises(KilledError):
            upgrade("ussuri")
    now = Lab.load("small")
    assert [now.driver.machine(now, node).running for node in now.spec.nodes] == [True, False]
    assert [hop.name for hop in upgrade("ussuri").hops] == ["ussuri"]
    assert snapshot.find(Lab.load("small"), "before-ussuri").spec.release == "train"


def test_a_failed_step_says_what_works_and_both_ways_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Upgrade, made: object) -> None:
        raise BrokenLabError("stage databases, first: 'nova tables' failed after 1.0 s")

    with monkeypatch.context() as patch:
        patch.setattr(Upgrade, "_converge", broken)
        with pytest.raises(BrokenLabError) as failed:
            upgrade("victoria")
    assert failed.value.message.splitlines()[0].startswith("Train to Ussuri, converge: stage databases")
    assert "Train does not run any more" in failed.value.message
    assert "labctl upgrade small --to victoria" in str(failed.value.hint)
    assert "labctl snapshot restore small before-ussuri" in str(failed.value.hint)

    with monkeypatch.context() as patch:
        patch.setattr(Upgrade, "_snapshot", lambda self, hop: broken(self, None))
        snapshot.restore(Lab.load("small"), "before-ussuri")
        with pytest.raises(BrokenLabError, match="small still has Train"):
            upgrade("victoria")


def test_a_restored_lab_begins_again(lab: Lab) -> None:
    upgrade("victoria")
    snapshot.restore(Lab.load("small"), "before-ussuri")
    assert Lab.load("small").spec.release == "train"
    state = upgrade("ussuri")
    assert [hop.name for hop in state.hops] == ["ussuri"]
    assert Lab.load("small").spec.release == "ussuri"


def test_one_chain_in_several_commands_is_one_table(lab: Lab) -> None:
    upgrade("wallaby", until="ussuri")
    state = upgrade("wallaby")
    assert [hop.name for hop in state.hops] == ["ussuri", "victoria", "wallaby"]
    assert load(Lab.load("small")) == state


def test_daemons_of_the_old_release_do_not_start_with_the_new_image(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lab.driver.files(lab, "first")
    assert root is not None
    wants = root / "etc/systemd/system/multi-user.target.wants"
    files.make_directories(wants, within=root)
    for unit in ("mariadb", "openstack-nova-api"):
        files.link(wants / f"{unit}.service", f"/lib/systemd/system/no-such-{unit}.service", within=root)
    monkeypatch.setattr(rebasing, "_daemons", lambda made, node: {"openstack-nova-api"})
    upgrade("ussuri")
    root = Lab.load("small").driver.files(Lab.load("small"), "first")
    assert root is not None
    wants = root / "etc/systemd/system/multi-user.target.wants"
    assert (wants / "mariadb.service").is_symlink(), "the database is no part of a release"
    assert not (wants / "openstack-nova-api.service").is_symlink(), "it would start with tables of the release before"


def test_a_lab_that_was_started_again_after_its_snapshot_gets_a_new_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Upgrade, *rest: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Upgrade, "_switch", killed)
        with pytest.raises(KilledError):
            upgrade("ussuri")
    first = snapshot.find(Lab.load("small"), "before-ussuri")
    snapshot.restore(Lab.load("small"), "before-ussuri")
    upgrade("ussuri")
    assert snapshot.find(Lab.load("small"), "before-ussuri").stack != first.stack


def test_images_come_through_the_labs_proxy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    layers = run.golden.ensure

    def ensure(*what: str) -> tuple[Path, ...]:
        seen.append(proxy.variables())
        return layers(*what)

    monkeypatch.setattr(run.golden, "ensure", ensure)
    lab.spec = lab.spec.model_copy(update={"proxy": "http://proxy.example:3128"})
    lab.save()
    upgrade("ussuri")
    assert len(seen) == 2
    assert all("http://proxy.example:3128" in variables.values() for variables in seen)


def test_a_failure_keeps_the_command_that_looks_at_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Upgrade, made: object) -> None:
        raise BrokenLabError("first: nova failed", "labctl ssh small first")

    monkeypatch.setattr(Upgrade, "_converge", broken)
    with pytest.raises(BrokenLabError) as failed:
        upgrade("ussuri")
    assert failed.value.message.endswith("to look at it: labctl ssh small first")


def test_on_another_base_a_node_has_that_bases_files_and_keeps_its_own(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def image(release: str, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            path = tmp_path / f"image-{release}/tree/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    settings = {"etc/hostname": "debian", "etc/default/etcd": "image", "etc/gone": "image", "var/lib/etcd/data": ""}
    image("train", settings)
    image("ussuri", {"etc/default/etcd": "of the new base"})
    root = lab.driver.files(lab, "first")
    assert root is not None
    for name in (*settings, "var/lib/rabbitmq/mnesia/node", "etc/made-by-a-program"):
        files.make_directories((root / name).parent, within=root)
        files.write_atomic(root / name, "the node's", within=root)
    lab.meta["image"] = [str(tmp_path / "image-train")]
    lab.save()
    old = lab.spec.model_copy(update={"base": "debian13"})
    kept = rebasing.rebase

    def other_base(lab: Lab, layers: object, before: Plan, after: Plan) -> None:
        kept(lab, layers, Plan(Context.of(old), before.stages), after)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "rebase", other_base)
    upgrade("ussuri")
    now = Lab.load("small")
    root = now.driver.files(now, "first")
    assert root is not None
    assert {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()} == {
        "etc/hostname": "the node's",
        "etc/default/etcd": "of the new base",
        "var/lib/etcd/data": "the node's",
        "etc/made-by-a-program": "the node's",
    }


def test_up_converges_an_upgraded_lab_and_does_not_take_it_back(lab: Lab, tmp_path: Path) -> None:
    """Every hint of a failure names `labctl up TOPOLOGY`, whose topology still says Train."""
    path = write(tmp_path, SMALL.replace("release: zed", "release: train"))
    spec = specify(path)
    upgrade("ussuri")
    found = bring.open_lab(spec, path)
    assert (found.spec.release, Lab.load("small").spec.release) == ("ussuri", "ussuri")
    with pytest.raises(RefusedError, match="already exists with release ussuri, not zed"):
        bring.open_lab(spec.model_copy(update={"release": "zed"}), path)
    snapshot.restore(Lab.load("small"), "before-ussuri")
    assert bring.open_lab(spec, path).spec == spec, "the snapshot is what the topology says"


def test_too_small_a_disk_is_named_before_the_first_hop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(lab.directory)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage._replace(free=2**30))
    with pytest.raises(NoSpaceError) as refused:
        upgrade("wallaby")
    assert "1 GiB free" in refused.value.message
    assert "about 7.5 GiB: 3 images" in refused.value.message
    assert snapshot.snapshots(lab) == []
    assert load(lab) is None, "nothing was begun"


# --- the verb --------------------------------------------------------------------------------------


def test_the_verb_foretells_the_hops_does_them_and_has_nothing_to_do_then(lab: Lab, labctl: Labctl) -> None:
    words = ("upgrade", "small", "--to", "victoria")
    status, foretold, _ = labctl(*words, "--dry-run", "-o", "json")
    assert (status, [row["snapshot"] for row in json.loads(foretold)]) == (0, ["before-ussuri", "before-victoria"])
    assert load(Lab.load("small")) is None

    status, told, err = labctl(*words, "-o", "json")
    assert status == 0, err
    rows = json.loads(told)
    assert [(row["smoke"], row["estate"], list(row["steps"])) for row in rows] == [
        ("1 passed, 1 skipped", "alive", list(STEPS))
    ] * 2
    status, told, _ = labctl(*words)
    assert (status, [line.split("  ")[0] for line in told.splitlines()]) == (
        0,
        ["HOP", "Train to Ussuri", "Ussuri to Victoria"],
    )
    assert [s.name for s in snapshot.snapshots(Lab.load("small"))] == ["before-ussuri", "before-victoria"]


def test_of_two_upgrades_at_once_the_second_is_told_who_works_there(lab: Lab, labctl: Labctl) -> None:
    with locked("small", "labctl upgrade small --to ussuri"):
        status, _, err = labctl("upgrade", "small", "--to", "victoria")
    assert status == 1
    assert f"the lab small is being changed by pid {os.getpid()}: labctl upgrade small --to ussuri" in err
    assert load(Lab.load("small")) is None
    assert snapshot.snapshots(Lab.load("small")) == []
