"""Builds whose mirror, packages, disk or labctl fail: they go on, or end with one message; the next goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mirror import Fault, Mirror, answers, cut, serving, silent, truncated

from labctl.errors import LabError
from labctl.host import paths, process
from labctl.images import apt, bulk, debian, store
from labctl.progress import Event, Kind, subscribed

pytestmark = pytest.mark.skipif(bool(process.missing("apt-get", "dpkg-deb")), reason="apt is not installed")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which needs root")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The only mirror that this test's apt knows; one that is silent is given up after a second."""
    with serving(tmp_path / "mirror") as made:
        sources = tmp_path / "test.list"
        sources.write_text(made.source)
        monkeypatch.setattr(apt, "SOURCES", (sources,))
        monkeypatch.setattr(apt, "SILENCE", 1)
        monkeypatch.setattr(bulk, "TIMEOUT", (1, 1))
        monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
        yield made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "build.log"


@pytest.fixture
def told() -> Iterator[list[Event]]:
    events: list[Event] = []
    with subscribed(events.append):
        yield events


def cached(archive: apt.Archive) -> list[str]:
    return sorted(p.name for p in archive.archives.glob("*.deb"))


def warnings(told: list[Event]) -> list[str]:
    return [event.text for event in told if event.kind is Kind.WARN]


# --- the mirror ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([cut], id="connection cut"),
        pytest.param([cut, cut, cut], id="connection cut several times"),
        pytest.param([truncated], id="truncated"),
        pytest.param([answers(503), answers(503)], id="503 for a while"),
        pytest.param([answers(404)], id="404 for a moment"),
        pytest.param([silent], id="no answer once"),
    ],
)
def test_a_mirror_that_fails_for_a_while_costs_no_build(mirror: Mirror, log: Path, faults: list[Fault]) -> None:
    good, bad = mirror.add("good"), mirror.add("bad")
    mirror.faults[bad] = list(faults)
    archive = apt.Archive()

    archive.fetch(["good", "bad"], log)

    assert cached(archive) == [bad, good]
    assert not mirror.faults[bad]


def test_a_broken_download_goes_on_where_it_ended(mirror: Mirror, log: Path) -> None:
    file = mirror.add("large", size=5_000_000)
    mirror.faults[file] = [cut]
    archive = apt.Archive()

    archive.fetch(["large"], log)

    assert mirror.resumed == [file]
    assert cached(archive) == [file]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(answers(404), "404", id="404"),
        pytest.param(answers(503), "503", id="503"),
        pytest.param(silent, "Connection", id="no answer"),
        pytest.param(truncated, "unexpected size", id="truncated"),
    ],
)
def test_a_mirror_that_fails_for_good_ends_the_build_with_its_name_and_the_file(
    mirror: Mirror, log: Path, told: list[Event], fault: Fault, said: str
) -> None:
    bad = mirror.add("bad")
    mirror.faults[bad] = [fault] * 100
    began = time.monotonic()

    with pytest.raises(LabError) as raised:
        apt.Archive().fetch(["bad"], log)

    first, *rest = raised.value.message.splitlines()
    assert mirror.url in first
    assert bad in raised.value.message
    assert said.lower() in raised.value.message.lower()
    assert rest[-1] == f"full log: {log}"
    assert "apt-get update" in raised.value.hint
    assert all(len(line) <= 500 for line in raised.value.message.splitlines())
    assert time.monotonic() - began < 60
    assert any("retrying (2 of 3)" in text for text in warnings(told))
    assert any("retrying (3 of 3)" in text for text in warnings(told))


def test_an_index_that_is_stale_is_read_again(mirror: Mirror, log: Path, told: list[Event]) -> None:
    old = mirror.add("moving", version="1")
    archive = apt.Archive()
    archive.update(log)
    (mirror.directory / old).unlink()
    shutil.rmtree(mirror.directory / ".moving")
    new = mirror.add("moving", version="2")

    archive.fetch(["moving"], log)

    assert cached(archive) == [new]
    assert any("reading the index again" in event.text for event in told)


def test_a_mirror_without_an_answer_is_given_up_with_its_name(mirror: Mirror, log: Path) -> None:
    mirror.faults = {name: [silent] * 100 for name in ("InRelease", "Release", "Packages")}
    began = time.monotonic()

    with pytest.raises(LabError) as raised:
        apt.Archive().update(log)

    assert mirror.url in raised.value.message.splitlines()[0]
    assert time.monotonic() - began < 60


def test_nothing_is_loaded_twice_and_without_a_mirror_the_cache_will_do(
    mirror: Mirror, log: Path, told: list[Event]
) -> None:
    mirror.add("good")
    apt.Archive().fetch(["good"], log)
    asked = len([name for name in mirror.asked if name.endswith(".deb")])
    mirror.faults = {name: [answers(503)] * 100 for name in ("InRelease", "Release", "Packages", "good_1_all.deb")}

    apt.Archive().fetch(["good"], log)

    assert len([name for name in mirror.asked if name.endswith(".deb")]) == asked
    assert any("using the cached index" in text for text in warnings(told))


ASKING = """
import sys
from pathlib import Path
from labctl.images import apt
apt.SOURCES = (Path(sys.argv[1]),)
archive, log = apt.Archive(), Path(sys.argv[2])
archive.depends(["good"], log)
archive.fetch(["good"], log)
archive.download(["good"], log.with_suffix(".d"), log)
"""


def test_several_labctls_at_once_share_one_cache(mirror: Mirror, tmp_path: Path) -> None:
    file = mirror.add("good", size=3_000_000)
    running = []
    for n in range(6):
        with (tmp_path / f"said-{n}").open("wb") as said:
            words = [sys.executable, "-c", ASKING, tmp_path / "test.list", tmp_path / f"log-{n}"]
            running.append(process.start(words, log=said))
    assert [r.wait(120) for r in running] == [0] * 6, [(tmp_path / f"said-{n}").read_text() for n in range(6)]
    assert cached(apt.Archive()) == [file]


def test_what_a_download_is_told_apart_by_is_its_checksum(mirror: Mirror, log: Path, tmp_path: Path) -> None:
    """A file that is not what the index says is never used, whoever sent it."""
    file = mirror.add("good")
    archive = apt.Archive()
    archive.update(log)
    content = bytearray((mirror.directory / file).read_bytes())
    content[-1] ^= 1
    (mirror.directory / file).write_bytes(content)

    with pytest.raises(LabError, match="Hash Sum mismatch"):
        archive.fetch(["good"], log)
    assert cached(archive) == []


def test_progress_counts_bytes_and_names_the_package(mirror: Mirror, log: Path, told: list[Event]) -> None:
    mirror.add("good", size=1_000_000)

    apt.Archive().fetch(["good"], log)

    seen = [event for event in told if event.kind is Kind.PROGRESS]
    assert any("good" in event.text and event.share == 1.0 for event in seen)


def test_sources_are_debians_files_or_others_that_name_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "PARTS", tmp_path)
    monkeypatch.setattr(apt, "SOURCES", (tmp_path / "debian.sources",))
    (tmp_path / "node.sources").write_text("URIs: https://mirror.example/node_20.x\n")
    (tmp_path / "off.list").write_text("# deb http://mirror.example/debian bookworm main\n")
    with pytest.raises(LabError, match="no apt sources found"):
        apt.sources()
    (tmp_path / "mine.list").write_text("deb http://mirror.example/debian bookworm main\n")
    assert apt.sources() == tmp_path / "mine.list"
    (tmp_path / "debian.sources").write_text("URIs: http://mirror.example/debian\n")
    assert apt.sources() == tmp_path / "debian.sources"


# --- packages' scripts, the disk, labctl itself ----------------------------------------------------

ONCE = '[ -e /var/lib/tried ] || { touch /var/lib/tried; echo "cannot do it yet" >&2; exit 1; }'


@pytest.fixture
def system(golden: tuple[Path, ...], mirror: Mirror) -> Path:
    """A real system's layer to install into; the test's mirror has nothing that it needs."""
    return golden[-1]


def layer(*packages: str, units: tuple[str, ...] = ()) -> debian.Layer:
    return debian.Layer(
        f"test-{packages[0]}",
        "Test",
        packages,
        {},
        lambda layer, below, archive, work: debian._add(layer, below, archive, work, units),
    )


def build(made: debian.Layer, *below: Path) -> Path:
    """Build a layer over others, as :func:`debian.ensure` does."""
    archive = apt.Archive()

    def work(directory: Path) -> dict[str, Any]:
        archive.fetch(made.packages, store.log_of(directory), below[0] / "tree/var/lib/dpkg/status")
        return made.build(made, below, archive, directory)

    return store.ensure(made.recipe(below), work)


@as_root
@pytest.mark.system
def test_a_script_that_fails_once_is_finished(
    mirror: Mirror, system: Path, home: Path, monkeypatch: pytest.MonkeyPatch, told: list[Event]
) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(home))
    mirror.add("racing", postinst=ONCE)

    made = build(layer("racing"), system)

    assert (made / "tree/usr/share/racing/data").exists()
    assert "racing 1" in [f"{n} {v}" for n, v in store.manifest_of(made)["packages"].items()]
    assert any("racing" in text and "retrying (2 of 3)" in text for text in warnings(told))
    store.verify(system)  # what was built upon is as it was


@as_root
@pytest.mark.system
def test_a_script_that_always_fails_ends_the_build_with_its_package_and_words(
    mirror: Mirror, system: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(home))
    mirror.add("broken", postinst='echo "Syntax error: Found nothing" >&2; exit 1')

    with pytest.raises(LabError) as raised:
        build(layer("broken"), system)

    lines = raised.value.message.splitlines()
    assert lines[0].startswith("image test-broken: apt-get install failed with status 100: dpkg: error processing")
    assert "package broken (--configure)" in lines[0]
    assert "Syntax error: Found nothing" in raised.value.message
    whole = Path(lines[-1].removeprefix("full log: "))
    assert whole.parent == paths.logs()
    assert "Setting up broken" in whole.read_text()
    assert not list(paths.images().glob(f"{store.BUILDING}*"))


@as_root
@pytest.mark.system
def test_a_full_disk_is_said_with_its_place_and_what_was_built_before_stays(
    mirror: Mirror, system: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(home))
    mirror.add("small")
    mirror.add("large", size=60_000_000)
    home.mkdir()
    process.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", home])
    try:
        below = build(layer("small"), system)
        with pytest.raises(LabError) as raised:
            build(layer("large"), below, system)
        assert raised.value.message.startswith(f"no space left on the file system of {paths.images()}")
        assert "labctl gc --images" in raised.value.hint
        assert [p.name for p in paths.images().iterdir() if not p.name.startswith(".")] == [below.name]
        process.run(["mount", "-o", "remount,size=400m", home])
        assert (build(layer("large"), below, system) / "tree/usr/share/large/data").exists()
    finally:
        process.run(["umount", home])


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_interrupted as here
from labctl.images import apt
apt.SOURCES = (Path(sys.argv[1]),)
system = Path(sys.argv[2])
below = here.build(here.layer("first"), system)
print(here.build(here.layer("second"), below, system))
"""


@as_root
@pytest.mark.system
@pytest.mark.parametrize("where", ["first", "second"])
def test_killed_in_a_layer_the_next_build_goes_on_from_the_layers_that_are_whole(
    mirror: Mirror, system: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(home))
    slow = "[ ! -e /run/labctl-stubs/slow ] || sleep 60"
    mirror.add("first", postinst=slow)
    mirror.add("second", postinst=slow)
    here = Path(__file__).parent
    words = [sys.executable, "-c", KILLED, tmp_path / "test.list", system, here, here.parent]
    running = process.start(words)
    deadline = time.monotonic() + 60
    stubs = None
    while not stubs:  # as soon as the layer is begun, its scripts are slow
        assert time.monotonic() < deadline
        assert running.poll() is None
        stubs = next(paths.images().glob(f"{store.BUILDING}test-{where}-*/stubs"), None)
    (stubs / "slow").touch()
    while not any((stubs.parent / "build/upper/var/lib/dpkg/info").glob(f"{where}.postinst")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    whole = {p.name: p.stat().st_ino for p in paths.images().glob("test-*")}
    assert len(whole) == ("first", "second").index(where)

    done = process.run(words, timeout=120)

    assert (Path(done.stdout.strip()) / "tree/usr/share/second/data").exists()
    assert whole.items() <= {p.name: p.stat().st_ino for p in paths.images().glob("test-*")}.items()
    assert not list(paths.images().glob(f"{store.BUILDING}*"))
