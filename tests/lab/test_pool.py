"""Pools: as many clones of a snapshot as wanted, each on its own; killed anywhere, the same command goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Labctl
from support import specify, write

from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError, RefusedError
from labctl.host import memory, process
from labctl.lab import clone, fault, pool, snapshot
from labctl.lab.down import down, remains
from labctl.records import lease
from labctl.records.directory import exists, names
from labctl.records.lab import Lab, begin_removal, locked

#: The lab `small` says that its two nodes need 512 MiB each.
EACH = 2**30


class KilledError(BaseException):
    """labctl ends here, as if killed: nothing is cleaned up."""


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for six labs, whatever this machine has."""
    monkeypatch.setattr(memory, "available", lambda: 6 * EACH + memory.RESERVE)


@pytest.fixture
def source(tmp_path: Path, fake: Fake) -> Lab:
    path = write(tmp_path)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up()
    tell(lab, "ready")
    snapshot.create(lab, "ready")
    tell(lab, "later")
    return lab


def tell(lab: Lab, text: str) -> None:
    with lab.driver.connect(lab, "first", 1) as session:
        assert session.run(f"echo {text} >told", timeout=10).status == 0


def told(name: str) -> str:
    lab = Lab.load(name)
    with lab.driver.connect(lab, "first", 1) as session:
        return session.run("cat told", timeout=10).stdout.strip()


def make(size: int, name: str = "class", at_once: int = 2, **more: object) -> list[Lab]:
    terms = lease.Terms.given(None, str(more.pop("ttl")) if "ttl" in more else None)
    wanted = pool.Wanted(name, size, terms, at_once, bool(more.pop("force", False)))
    return pool.make(Lab.load("small"), "ready", wanted)


def labs() -> list[str]:
    return [name for name in names() if name != "small"]


def running(name: str) -> bool:
    lab = Lab.load(name)
    return all(lab.driver.machine(lab, node).running for node in lab.spec.nodes)


def killed_at(monkeypatch: pytest.MonkeyPatch, what: str, name: str) -> Callable[[], None]:
    """labctl is killed when it calls ``what`` for a lab; returns what ends that."""
    place, _, function = what.rpartition(".")
    patch = pytest.MonkeyPatch()

    def kill(lab: Lab, *args: object, **kwargs: object) -> object:
        if lab.name == name:
            raise KilledError
        return original(lab, *args, **kwargs)

    original = getattr(pool if place == "pool" else clone if place == "clone" else snapshot, function)
    patch.setattr(f"labctl.lab.{what}", kill)
    return patch.undo


# --- make ------------------------------------------------------------------------------------------


def test_a_pool_is_so_many_clones_of_the_snapshot_and_the_lab_goes_on(source: Lab, fake: Fake) -> None:
    fake.rested.clear()
    made = make(3)
    assert [lab.name for lab in made] == labs() == ["class-01", "class-02", "class-03"]
    assert [told(name) for name in labs()] == ["ready"] * 3
    assert (told("small"), fake.rested) == ("later", []), "nobody stopped it"
    assert all(running(name) for name in labs())
    places = [pool.place(lab) for lab in made]
    assert [(p.name, p.number, p.source) for p in places if p] == [("class", n, "small/ready") for n in (1, 2, 3)]
    assert all(p is not None and p.start is not None and p.reset is None for p in places)
    assert len({lab.id for lab in made} | {source.id}) == 4
    assert len({lab.spec.nodes["first"].interfaces[0].mac for lab in made}) == 3


def test_the_source_need_not_run(source: Lab, fake: Fake) -> None:
    for node in source.spec.nodes:
        fake.stop(source, node, 0)
    assert len(make(2)) == 2


def test_again_nothing_is_done_and_what_was_done_in_them_stays(source: Lab, fake: Fake) -> None:
    before = {lab.name: lab.id for lab in make(2)}
    tell(Lab.load("class-01"), "mine")
    seen = len(fake.stages)
    with locked("class-02", "labctl test"):  # not even looked for its lock
        assert {lab.name: lab.id for lab in make(2)} == before
    assert (told("class-01"), len(fake.stages)) == ("mine", seen)


def test_it_grows_and_shrinks(source: Lab) -> None:
    make(2)
    tell(Lab.load("class-01"), "mine")
    assert [lab.name for lab in make(4)] == ["class-01", "class-02", "class-03", "class-04"]
    down("class-02")
    assert [lab.name for lab in make(3)] == ["class-01", "class-02", "class-03"]
    assert (labs(), remains("class-04"), told("class-01")) == (["class-01", "class-02", "class-03"], [], "mine")


def test_as_many_at_once_as_told(source: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, lock = [], [], threading.Lock()
    met = threading.Barrier(2, timeout=20)

    def slow(lab: Lab) -> None:
        with lock:
            now.append(lab.name)
            most.append(len(now))
        met.wait()
        with lock:
            now.remove(lab.name)

    monkeypatch.setattr(pool, "gate", slow)
    make(4, at_once=2)
    assert max(most) == 2


def test_machines_that_died_are_started_and_faults_stay(source: Lab, fake: Fake) -> None:
    make(3)
    fake.stop(Lab.load("class-01"), "second", 0)
    fault.kill_node(Lab.load("class-03"), "first")
    tell(Lab.load("class-01"), "mine")
    make(3)
    assert (running("class-01"), told("class-01")) == (True, "mine")
    assert not running("class-03"), "an exercise is not healed"


def test_owner_and_lease_are_those_of_the_command_and_renewed_by_it(
    source: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "teacher")
    lease.renew(source, lease.Terms.given("otto", "1h"))
    make(2)
    assert [(lease.owner(lab), lease.left(lab)) for lab in make(2)] == [("teacher", None)] * 2
    assert all((lease.left(lab) or 0) > 7 * 3600 for lab in make(2, ttl="8h"))
    grown = make(3)[2]
    assert (lease.owner(grown), (lease.left(grown) or 0) > 7 * 3600) == ("teacher", True), "as the others"
    snapshot.restore(Lab.load("class-01"), "ready")
    assert (lease.left(Lab.load("class-01")) or 0) > 7 * 3600, "a restore is of machines"
    assert all(lease.left(lab) is None for lab in make(3, ttl="never"))


# --- what is refused -------------------------------------------------------------------------------


def test_a_pool_that_does_not_fit_is_refused_with_numbers_before_anything_is_made(source: Lab, fake: Fake) -> None:
    with pytest.raises(RefusedError, match=r"20 more labs need 20 GiB of memory \(1 GiB each\)") as raised:
        make(20)
    assert "6 GiB and" in raised.value.message
    assert raised.value.message.endswith("enough for 6")
    assert "--force" in raised.value.hint
    assert labs() == []
    make(5)
    with pytest.raises(RefusedError, match="7 more labs need 7 GiB"):
        make(12)
    assert len(labs()) == 5


def test_one_that_does_not_fit_on_the_disk_is_refused(source: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(source.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**30))
    with pytest.raises(RefusedError, match=r"about 4 GiB of disk; 6 GiB and 3 GiB are free, enough for 1"):
        make(2)
    with pytest.raises(RefusedError, match=r"3 GiB are free, enough for 1"):
        make(2, force=True)
    assert labs() == []


def test_force_makes_as_many_as_really_fit(source: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([*[2 * memory.RESERVE] * 4, *[memory.RESERVE - 1] * 100])
    monkeypatch.setattr(memory, "available", lambda: next(left))
    with pytest.raises(LabError, match="no more labs were made: less than 1 GiB of memory is left") as raised:
        make(20, at_once=1, force=True)
    assert raised.value.message.count("\n") == 0, "said once, not for each"
    assert labs() == ["class-01", "class-02", "class-03"]


@pytest.mark.parametrize("name", ["Class", "-a", "a" * 37, "", "a b", "../x"])
def test_what_is_no_name_of_a_pool_is_refused(name: str, source: Lab) -> None:
    with pytest.raises(RefusedError, match="is not the name of a pool"):
        make(2, name=name)


def test_names_that_other_labs_have_are_refused_and_these_stay(source: Lab, tmp_path: Path) -> None:
    path = write(tmp_path)
    Lab.create(specify(path, name="class-02"), path)
    with pytest.raises(RefusedError, match="not of the pool class have names of it: class-02"):
        make(3)
    assert labs() == ["class-02"]


def test_a_pool_is_of_one_snapshot(source: Lab) -> None:
    make(1)
    snapshot.create(source, "other")
    with pytest.raises(RefusedError, match="the pool class is made of small/ready, not of small/other"):
        pool.make(Lab.load("small"), "other", pool.Wanted("class", 2, lease.UNSAID, 1))
    snapshot.delete(Lab.load("small"), "ready")
    snapshot.create(Lab.load("small"), "ready")
    with pytest.raises(RefusedError, match="as it was before it was taken anew"):
        make(2)


def test_a_snapshot_that_is_gone_is_said_and_the_labs_can_still_be_reset(source: Lab) -> None:
    make(2)
    tell(Lab.load("class-01"), "mine")
    snapshot.delete(Lab.load("small"), "ready")
    with pytest.raises(LabError, match="small has no snapshot 'ready'"):
        make(3)
    down("small")
    pool.reset("class", [], 2)
    assert told("class-01") == "ready"


def test_one_that_fails_does_not_keep_the_others(source: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(lab: Lab) -> None:
        if lab.name == "class-02":
            raise LabError("class-02 is not healthy", "labctl repair class-02")

    monkeypatch.setattr(pool, "gate", broken)
    with pytest.raises(LabError, match="class-02 is not healthy"):
        make(3)
    assert labs() == ["class-01", "class-02", "class-03"]
    monkeypatch.undo()


# --- killed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["snapshot.branch", "clone._copy", "snapshot.wake", "pool.gate"])
def test_what_was_killed_goes_on_when_it_is_repeated(what: str, source: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    over = killed_at(monkeypatch, what, "class-02" if what != "clone._copy" else "small")
    with pytest.raises(KilledError):
        make(3, at_once=1)
    over()
    made = make(3)
    assert [lab.name for lab in made] == labs() == ["class-01", "class-02", "class-03"]
    assert [told(name) for name in labs()] == ["ready"] * 3
    assert all(place.start is not None for lab in made if (place := pool.place(lab)))


def test_a_removal_that_was_killed_goes_on(source: Lab) -> None:
    make(3)
    begin_removal("class-02")
    shutil.rmtree(Lab.load("class-03").directory / "nodes")
    (Lab.load("class-01").directory.parent / "class-04" / "layers").mkdir(parents=True)
    assert pool.down("class", 2) == ["class-01", "class-03", "class-02", "class-04"]
    assert [remains(f"class-0{n}") for n in (1, 2, 3, 4)] == [[], [], [], []]
    assert pool.down("class", 2) == []
    assert exists("small")


def test_a_half_removed_lab_of_the_pool_is_made_anew(source: Lab) -> None:
    make(2)
    begin_removal("class-01")
    assert [lab.name for lab in make(2)] == ["class-01", "class-02"]
    assert told("class-01") == "ready"


# --- reset -----------------------------------------------------------------------------------------


def test_a_reset_is_of_all_labs_or_of_those_that_are_named(source: Lab, fake: Fake) -> None:
    make(3)
    for name in labs():
        tell(Lab.load(name), "mine")
    assert [lab.name for lab in pool.reset("class", ["class-02"], 2)] == ["class-02"]
    assert [told(name) for name in labs()] == ["mine", "ready", "mine"]
    fake.stop(Lab.load("class-03"), "first", 0)
    fault.kill_node(Lab.load("class-01"), "first")
    done = pool.reset("class", [], 2)
    assert [told(name) for name in labs()] == ["ready"] * 3
    assert all((place := pool.place(lab)) and place.reset is not None and place.start is not None for lab in done)
    assert fault.active(Lab.load("class-01")) == ()


def test_the_image_is_verified_once_for_all(source: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Fake, "image", lambda self, lab: seen.append(lab.name) or ())
    make(3)
    assert seen == ["small"]
    pool.reset("class", [], 2)
    assert len(seen) == 2
    for name in labs():
        fake.stop(Lab.load(name), "first", 0)
    make(3)
    assert ([running(name) for name in labs()], len(seen)) == ([True] * 3, 3)


def test_labs_that_are_not_of_the_pool_are_not_reset(source: Lab) -> None:
    make(1)
    for name in ("small", "class-02"):
        with pytest.raises(LabError, match=f"not of the pool class: {name}"):
            pool.reset("class", ["class-01", name], 1)
    with pytest.raises(LabError, match="there is no pool 'other'; pools: class"):
        pool.reset("other", [], 1)


def test_one_that_lost_its_snapshot_or_is_in_use_is_said_and_the_others_are_reset(source: Lab) -> None:
    make(3)
    for name in labs():
        tell(Lab.load(name), "mine")
    snapshot.delete(Lab.load("class-01"), "ready")
    with locked("class-02", "labctl test"), pytest.raises(LabError, match="class-02 is being changed") as it:
        pool.reset("class", [], 2)
    assert "class-01 has no snapshot 'ready' any more" in it.value.message
    assert "labctl down class-01" in it.value.hint
    assert [told(name) for name in labs()] == ["mine", "mine", "ready"]


def test_a_place_that_labctl_did_not_write_is_none(source: Lab) -> None:
    make(1)
    lab = Lab.load("class-01")
    lab.meta["pool"] = {"name": 3}
    lab.save()
    assert (pool.place(Lab.load("class-01")), pool.pools()) == (None, {})


# --- the command line ------------------------------------------------------------------------------


def test_the_verb_makes_lists_resets_and_removes(source: Lab, labctl: Labctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "memory_of", lambda lab: 2**20)
    status, out, _ = labctl("pool", "--size", "2", "small/ready", "--name", "class", "--ttl", "8h", "--owner", "otto")
    assert status == 0
    assert "class: 2 labs of small/ready in" in out
    assert [line.split()[0] for line in out.splitlines()] == ["LAB", "class-01", "class-02", "class:"]

    (row,) = json.loads(labctl("pool", "list", "-o", "json")[1])
    assert {key: row[key] for key in ("pool", "snapshot", "labs", "owner", "bytes", "expires")} == {
        **{"pool": "class", "snapshot": "small/ready", "labs": 2, "owner": "otto"},
        **{"bytes": 2**21, "expires": "in 8.0 h"},
    }
    assert row["expires_at"] > 1_700_000_000
    rows = json.loads(labctl("pool", "reset", "class", "class-02", "-o", "json")[1])
    assert [(r["lab"], r["reset_seconds"] is not None) for r in rows] == [("class-02", True)]
    rows = json.loads(labctl("pool", "list", "class", "-o", "json")[1])
    assert [(r["lab"], r["machines"], r["reset_seconds"] is not None) for r in rows] == [
        ("class-01", "2/2 running", False),
        ("class-02", "2/2 running", True),
    ]
    assert "class: 2 labs removed" in labctl("pool", "down", "class")[1]
    assert "class: nothing to remove" in labctl("pool", "down", "class")[1]
    assert labs() == []


def test_by_default_a_pool_has_the_name_of_its_lab(source: Lab, labctl: Labctl) -> None:
    assert labctl("pool", "create", "small/ready", "--size", "1")[0] == 0
    assert labs() == ["small-01"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["small/ready"], "Missing option '--size'"),
        (["small/ready", "--size", "0"], "greater than or equal to 1"),
        (["small/ready", "--size", "1000"], "less than or equal to 999"),
        (["small/ready", "--size", "x"], "a valid integer"),
        (["create", "small", "--size", "1"], "'small' is not a snapshot: write LAB/SNAPSHOT"),
        (["/ready", "--size", "1"], "'/ready' is not a snapshot"),
        (["small/", "--size", "1"], "'small/' is not a snapshot"),
        (["small/ready/x", "--size", "1"], "small has no snapshot 'ready/x'"),
        (["none/ready", "--size", "1"], "there is no lab named 'none'"),
        (["../small/ready", "--size", "1"], "there is no lab named '..'"),
        (["small/none", "--size", "1"], "small has no snapshot 'none'; snapshots: ready"),
        (["small/ready", "--size", "1", "--ttl", "0h"], "is not a length of time"),
        (["list", "none"], "there is no pool 'none'; pools: none"),
        (["reset", "none"], "there is no pool 'none'"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str, source: Lab, labctl: Labctl) -> None:
    status, _, err = labctl("pool", *words)
    assert status in (1, 2)
    assert said in " ".join(err.split()), err
    assert labs() == []


def test_memory_is_that_of_the_processes_and_shared_pages_count_once() -> None:
    child = process.start(["sleep", "60"])
    try:
        alone = memory.used([child.pid])
        assert 0 < alone < 64 * 2**20
        assert memory.used([child.pid, 2**22 + 1]) <= alone * 2, "one that has ended counts nothing"
    finally:
        child.kill()
        child.wait()
