"""The image store: an image is built once, seen whole or not at all, and refused when it was touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.host import lock, paths, process
from labctl.images import store
from labctl.lab import gc
from labctl.progress import Event, subscribed
from labctl.records.lab import Lab

RECIPE = store.Recipe("debian12-zed", {"packages": ["keystone", "nova"], "version": 1})


def build(work: Path) -> dict[str, Any]:
    (work / "tree" / "etc").mkdir(parents=True)
    (work / "tree" / "etc" / "hostname").write_text("golden\n")
    (work / "tree" / "etc" / "link").symlink_to("hostname")
    return {"packages": {"keystone": "22.0.2"}}


def fail_to_build(work: Path) -> dict[str, Any]:
    raise AssertionError("built although it is there")


def in_store() -> list[str]:
    """What the store shows; a lock file is no image."""
    return sorted(p.name for p in paths.images().iterdir() if not p.name.endswith(".lock"))


def test_an_image_is_built_once() -> None:
    first = store.ensure(RECIPE, build)
    assert store.ensure(RECIPE, fail_to_build) == first
    assert in_store() == [RECIPE.name]


def test_a_manifest_says_what_the_image_was_made_from() -> None:
    manifest = json.loads((store.ensure(RECIPE, build) / "manifest.json").read_text())
    assert manifest["recipe"] == RECIPE.inputs
    assert manifest["packages"] == {"keystone": "22.0.2"}


def test_the_name_is_the_hash_of_the_recipe() -> None:
    same = store.Recipe("debian12-zed", {"version": 1, "packages": ["keystone", "nova"]})
    other = store.Recipe("debian12-zed", {"version": 2, "packages": ["keystone", "nova"]})
    assert same.name == RECIPE.name
    assert other.name != RECIPE.name
    assert RECIPE.name.startswith("debian12-zed-")


def test_an_image_appears_under_its_name_only_when_it_is_whole() -> None:
    def look(work: Path) -> dict[str, Any]:
        facts = build(work)
        assert not (paths.images() / RECIPE.name).exists()
        assert work.name.startswith(".")
        return facts

    assert (store.ensure(RECIPE, look) / "manifest.json").exists()


@pytest.mark.parametrize("error", [LabError("no mirror"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(error: BaseException) -> None:
    def broken(work: Path) -> dict[str, Any]:
        build(work)
        raise error

    with pytest.raises(type(error)):
        store.ensure(RECIPE, broken)
    assert in_store() == []
    assert store.ensure(RECIPE, build).exists()


def add(tree: Path) -> None:
    (tree / "etc" / "new").write_text("")


def edit(tree: Path) -> None:
    (tree / "etc" / "hostname").write_text("golder\n")


def remove(tree: Path) -> None:
    (tree / "etc" / "hostname").unlink()


def chmod(tree: Path) -> None:
    (tree / "etc" / "hostname").chmod(0o777)


@pytest.mark.parametrize("touch", [add, edit, remove, chmod])
def test_a_touched_tree_is_refused_with_the_command_that_removes_it(touch: Any) -> None:
    directory = store.ensure(RECIPE, build)
    time.sleep(0.02)
    touch(directory / "tree")

    with pytest.raises(LabError) as raised:
        store.ensure(RECIPE, fail_to_build)

    assert f"the image {RECIPE.name} was modified" in raised.value.message
    assert f"rm -rf {directory}" in raised.value.hint


def test_reading_a_tree_does_not_touch_it() -> None:
    directory = store.ensure(RECIPE, build)
    os.utime(directory / "tree" / "etc", (1, 1))  # a directory's time is not its content
    (directory / "tree" / "etc" / "hostname").read_text()
    store.verify(directory)


BUILDER = """
import sys, time
from collections.abc import Callable
from pathlib import Path
from labctl.images import store
from labctl.progress import subscribed

def build(work):
    with open(sys.argv[1], "a") as log:
        log.write("build\\n")
    (work / "tree").mkdir()
    (work / "tree" / "file").write_text("x")
    time.sleep(float(sys.argv[2]))
    return {}

recipe = store.Recipe("debian12-zed", {"packages": ["keystone", "nova"], "version": 1})
with subscribed(lambda event: print(event.text, flush=True)):
    print(store.ensure(recipe, build))
"""


def test_two_builders_at_once_build_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    count, out = tmp_path / "count", [tmp_path / "out0", tmp_path / "out1"]
    running = []
    for path in out:
        with path.open("wb") as log:
            running.append(process.start([sys.executable, "-c", BUILDER, count, "2"], log=log))
    assert [r.wait(60) for r in running] == [0, 0]

    assert count.read_text() == "build\n"
    said = sorted((p.read_text() for p in out), key=len)
    assert all(text.splitlines()[-1] == str(paths.images() / RECIPE.name) for text in said)
    assert any(f"another labctl builds {RECIPE.name}; waiting for it" in text for text in said)
    assert in_store() == [RECIPE.name]


def test_what_a_killed_builder_left_is_removed_by_the_next(tmp_path: Path) -> None:
    count = tmp_path / "count"
    running = process.start([sys.executable, "-c", BUILDER, count, "60"])
    deadline = time.monotonic() + 20
    while not count.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert in_store() == [f".building-{RECIPE.name}"]

    directory = store.ensure(RECIPE, build)

    assert in_store() == [RECIPE.name]
    assert not (directory / "tree" / "file").exists()


def test_building_is_told_as_a_step() -> None:
    events: list[Event] = []
    with subscribed(events.append):
        store.ensure(RECIPE, build)
        store.ensure(RECIPE, build)
    assert [(e.kind.value, e.text) for e in events] == [
        ("begin", f"build {RECIPE.name}"),
        ("end", f"build {RECIPE.name}"),
        ("begin", f"verify {RECIPE.name}"),
        ("end", f"verify {RECIPE.name}"),
    ]


def unused() -> list[str]:
    """Images that gc removes."""
    listed = [f for f in gc.find(images=True) if f.kind == "image"]
    assert gc.remove(listed) == []
    return [f.name for f in listed if not (paths.images() / f.name).exists()]


def test_what_a_build_stands_on_is_not_removed_before_it_ends() -> None:
    base = store.ensure(RECIPE, build)
    tool = store.Recipe("tool", {})

    def upper(work: Path) -> dict[str, Any]:
        store.ensure(tool, build)
        assert unused() == []
        return build(work)

    made = store.ensure(store.Recipe("upper", {}), upper, over=(base,))

    assert unused() == sorted([base.name, tool.name, made.name])


def test_a_build_over_an_image_that_is_gone_says_so() -> None:
    base = store.ensure(RECIPE, build)
    shutil.rmtree(base)
    with pytest.raises(LabError, match="was removed meanwhile"):
        store.ensure(store.Recipe("upper", {}), fail_to_build, over=(base,))


def test_images_of_a_block_are_kept_until_it_ends_found_or_built() -> None:
    found = store.ensure(RECIPE, build)
    with store.keeping():
        store.ensure(RECIPE, fail_to_build)
        made = store.ensure(store.Recipe("other", {}), build)
        assert unused() == []
    assert unused() == sorted([found.name, made.name])


def test_a_lab_keeps_its_image_until_its_record_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, removed = Fake(), []

    def record(lab: Lab, layers: tuple[Path, ...]) -> None:
        removed.extend(unused())
        original(lab, layers)

    original = Lab.record_image
    monkeypatch.setattr(Lab, "record_image", record)
    monkeypatch.setattr(driver, "image", lambda lab: (store.ensure(RECIPE, build),))
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    path = write(tmp_path, SMALL)
    Engine(Lab.create(specify(path), path), no_guest).up()

    assert removed == []
    assert unused() == []


def test_an_image_that_others_use_is_found_without_waiting_for_them() -> None:
    made = store.ensure(RECIPE, build)
    with lock.shared(store.lock_of(made), "uses it"):
        assert store.ensure(RECIPE, fail_to_build) == made


def test_an_imported_image_that_claims_to_be_a_built_one_serves_no_build(tmp_path: Path) -> None:
    """Names, sizes and times decide on an identity, so another content can have the same."""
    recipe = store.Recipe("base", {"of": "claims"})

    def build(content: str) -> Callable[[Path], dict[str, Any]]:
        def made(work: Path) -> dict[str, Any]:
            (work / "tree").mkdir()
            (work / "tree/file").write_text(content)
            os.utime(work / "tree/file", (1, 1))
            os.utime(work / "tree", (1, 1))
            return {}

        return made

    honest = store.ensure(recipe, build("golden"))
    digest = store.identity(honest)
    forged = tmp_path / honest.name
    shutil.copytree(honest, forged)
    shutil.rmtree(honest)
    (forged / "tree/file").write_text("forged")
    os.utime(forged / "tree/file", (1, 1))
    os.utime(forged / "tree", (1, 1))
    assert store.take(forged, digest).name == f"{honest.name}-{digest[:8]}"
    assert (store.ensure(recipe, build("golden")) / "tree/file").read_text() == "golden"
    # and once there is a built one, an import of that identity uses it
    found = store.find(honest.name, digest)
    assert found is not None
    assert (found / "tree/file").read_text() == "golden"
