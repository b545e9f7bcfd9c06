"""A running lab gets a source, is what ``up`` would make of it, and says how to go back when that fails."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from apis import Apis
from commandline import Labctl
from support import IDENTITY, specify, write

from labctl.commands.wanted import Wanted
from labctl.drivers.fake import Fake
from labctl.engine import sources
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, RefusedError
from labctl.lab import gc, source
from labctl.lab import up as bring
from labctl.lab.finding import Finding
from labctl.nightly import tempest
from labctl.records.lab import Lab
from labctl.sources import build
from labctl.sources.given import Given
from labctl.testing import junit
from labctl.topology.spec import LabSpec, SourceSpec
from labctl.topology.stages import STAGES
from labctl.upgrade import chain


class Home:
    """The environment of a lab, whose own modules have a schema."""

    def schema(self, project: str) -> str:
        return "own"


@pytest.fixture
def lab(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab with keystone, and trees with it: ``nova/N`` is version N, whose schema is its first letter."""
    Apis.instead(monkeypatch)

    def made(home: Home, spec: LabSpec, given: Given, *, force: bool = False) -> SourceSpec:
        name = Path(given.place).name
        if name == "other" and not force:
            raise RefusedError(f"{given.text} is of another release", "--force")
        return SourceSpec(
            project=given.project,
            layer=f"source-{given.project}-{name}",
            version=name,
            origin=given.place,
            commit="1a2b3c4d5e6f7a8b",
            dirty=True,
            schema_digest="new" if name.startswith("n") else "own",
        )

    monkeypatch.setattr(build, "made", made)
    monkeypatch.setattr(source.Home, "of", lambda spec, layers=(): Home())
    monkeypatch.setattr(sources, "bring", lambda lab, sessions, stage: [])
    for name in ("1.0", "2.0", "n3.0", "other"):
        (tmp_path / "keystone" / name).mkdir(parents=True)
    path = write(tmp_path, IDENTITY)
    made_lab = Lab.create(specify(path), path)
    Engine(made_lab, no_guest).up()
    fake.stages.clear()
    return made_lab


def change(lab: Lab, place: Path, name: str, **options: Any) -> list[source.Change]:
    return source.change(Lab.load(lab.name), [f"keystone={place / 'keystone' / name}"], place, **options)


def test_a_changed_project_is_what_up_would_have_made_of_it(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    (made,) = change(lab, tmp_path, "1.0")
    assert made.before == "release"
    assert made.after == f"1.0 (1a2b3c4d5e6f, changed) from {tmp_path}/keystone/1.0"
    assert {stage for stage, _ in fake.stages} == {"source", "keystone", "keystone-after"}
    summary = Engine(Lab.load(lab.name), no_guest).up()
    assert summary.skipped == [stage for stage in STAGES if stage != "verify"], "up finds nothing to do"
    path = write(tmp_path, IDENTITY)
    assert bring.open_lab(specify(path), path).spec.sources.keys() == {"keystone"}, "up without it keeps it"


def test_going_back_leaves_no_word_of_it(lab: Lab, tmp_path: Path) -> None:
    before = Lab.load(lab.name).spec
    change(lab, tmp_path, "1.0")
    change(lab, tmp_path, "2.0")
    (made,) = source.change(Lab.load(lab.name), ["keystone=release"], tmp_path)
    assert (made.before.split()[0], made.after) == ("2.0", "release")
    assert Lab.load(lab.name).spec == before


def test_tables_that_a_tree_has_changed_stay_and_that_is_said(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "warn", lambda where, text: said.append(f"{where}: {text}"))
        change(lab, tmp_path, "1.0")
        source.change(Lab.load(lab.name), ["keystone=release"], tmp_path)
        assert said == []
        change(lab, tmp_path, "n3.0")
        source.change(Lab.load(lab.name), ["keystone=release"], tmp_path)
    assert said == [
        "keystone: its tables stay as n3.0 (1a2b3c4d5e6f, changed) has left them; only a snapshot would go back"
    ]


def test_a_tree_that_does_not_fit_changes_nothing(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is of another release"):
        change(lab, tmp_path, "other")
    assert (fake.stages, Lab.load(lab.name).spec.sources) == ([], {})
    assert change(lab, tmp_path, "other", force=True)


def test_a_daemon_that_does_not_start_says_how_to_go_back_and_going_on_repeats_it(
    lab: Lab, fake: Fake, tmp_path: Path
) -> None:
    change(lab, tmp_path, "1.0")
    fake.failures["start keystone"] = "ImportError: No module named nothing"
    with pytest.raises(BrokenLabError, match="No module named nothing") as caught:
        change(lab, tmp_path, "2.0")
    assert caught.value.hint.startswith(f"labctl source identity keystone={tmp_path}/keystone/1.0 goes back")
    fake.failures.clear()
    assert change(lab, tmp_path, "2.0")[0].after.startswith("2.0")
    assert [stage.name for stage in Engine(Lab.load(lab.name), no_guest).up().stages] == ["verify"]


def test_a_lab_that_is_not_up_goes_on_first(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    fake.stop(lab, "api", 0)
    with pytest.raises(BrokenLabError, match="identity is not up") as caught:
        change(lab, tmp_path, "1.0")
    assert caught.value.hint.startswith("labctl up")


def test_a_lab_with_a_source_is_not_upgraded(lab: Lab, tmp_path: Path) -> None:
    change(lab, tmp_path, "1.0")
    spec = Lab.load(lab.name).spec.model_copy(update={"release": "train", "package_source": "pypi"})
    with pytest.raises(Exception, match="sources of its own, which are of one release: keystone"):
        chain.plan(spec, "ussuri", kernel=False)


def test_the_verb_lists_changes_and_is_told_by_status_and_info(lab: Lab, labctl: Labctl, tmp_path: Path) -> None:
    place = tmp_path / "keystone" / "1.0"
    status, told, err = labctl("source", "identity", f"keystone={place}")
    assert status == 0, err
    assert f"keystone: release -> 1.0 (1a2b3c4d5e6f, changed) from {place}" in told
    _, listed, _ = labctl("source", "identity", "-o", "json")
    (row,) = json.loads(listed)
    assert (row["project"], row["version"], row["commit"], row["origin"]) == (
        "keystone",
        "1.0",
        "1a2b3c4d5e6f changed",
        str(place),
    )
    _, shown, _ = labctl("status", "identity")
    assert f"source: keystone 1.0 (1a2b3c4d5e6f, changed) from {place}" in shown
    _, shown, _ = labctl("status", "identity", "-o", "json")
    assert json.loads(shown)["sources"]["keystone"]["commit"] == "1a2b3c4d5e6f7a8b"
    _, shown, _ = labctl("info", "identity")
    assert "1.0 (1a2b3c4d5e6f, changed)" in shown
    status, _, err = labctl("source", "identity", "nova=release")
    assert (status, "unknown project 'nova'" in err) == (1, True)


def test_layers_of_edits_go_and_those_that_a_lab_has_stay(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    findings = [
        Finding("image", name, (), 0, lambda: [])
        for name in ("source-keystone-1.0", "source-nova-1.0", "debian12-train-1")
    ]
    monkeypatch.setattr(gc, "unused_images", lambda pattern: (f for f in findings if fnmatch(f.name, pattern)))
    monkeypatch.setattr(gc, "remove", lambda found: removed.extend(finding.name for finding in found))
    change(lab, tmp_path, "2.0")
    assert removed == ["source-keystone-1.0"]


def test_edits_of_a_working_tree_are_followed_when_they_rest(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no project of identity is from a working tree"):
        next(source.watch(lab))
    change(lab, tmp_path, "1.0")
    place, looks = tmp_path / "keystone" / "1.0", [0]

    def rest() -> None:
        looks[0] += 1
        assert looks[0] < 20
        if looks[0] in (2, 3, 4, 8):  # three writes in a row, and one after a rest
            (place / "api.py").write_text("1" * looks[0])

    edits = source.watch(Lab.load(lab.name), rest)
    assert [(next(edits), looks[0]), (next(edits), looks[0])] == [("keystone", 5), ("keystone", 9)]


def test_a_watched_edit_that_fails_is_told_and_the_next_one_mends_it(
    lab: Lab, fake: Fake, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(lab, tmp_path, "1.0")

    def watched(lab: Lab) -> Any:
        fake.failures["start keystone"] = "SyntaxError: invalid syntax"
        yield "keystone"
        fake.failures.clear()
        yield "keystone"

    monkeypatch.setattr(source, "watch", watched)
    status, told, err = labctl("source", "identity", "--watch")
    assert status == 0
    assert "SyntaxError: invalid syntax" in err
    assert "try: labctl source identity keystone=" in err
    assert told.splitlines()[0] == "identity: waiting for edits; ^C ends it"
    assert "identity: keystone in " in told


def test_a_topology_names_sources_beside_its_file_and_the_command_line_others(tmp_path: Path) -> None:
    place = tmp_path / "topologies"
    (place / "keystone").mkdir(parents=True)
    text = IDENTITY + "sources: {keystone: keystone, nova: 'https://example.org/nova@master', glance: 'keystone@v1'}\n"
    wanted = Wanted(str(write(place, text)))
    assert wanted.sources(["nova=/tree"])[0] == [
        "nova=/tree",
        f"keystone={place}/keystone",
        f"glance={place}/keystone@v1",
    ]


def test_a_new_lab_comes_up_with_its_source_and_not_with_the_word_release(
    lab: Lab, fake: Fake, labctl: Labctl, tmp_path: Path
) -> None:
    path = write(tmp_path, IDENTITY, "again.yaml")
    status, _, err = labctl("up", path, "--name", "again", "--source", f"keystone={tmp_path}/keystone/2.0")
    assert status == 0, err
    assert Lab.load("again").spec.sources["keystone"].version == "2.0"
    assert ("packages", "api") in fake.stages
    status, _, err = labctl("up", path, "--name", "third", "--source", "keystone=release")
    assert (status, "keystone=release: that is what a new lab has" in err) == (1, True)


def test_a_tempest_result_says_whose_code_it_is_of(
    lab: Lab, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(lab, tmp_path, "1.0")
    cases = [junit.Case("tempest.api.a", "failed", 1.0, "it broke"), junit.Case("tempest.api.b", "passed", 1.0)]
    result = tempest.Result(7, cases, tmp_path / "junit.xml", 1, late=False, seconds=2.0)
    monkeypatch.setattr(tempest, "run", lambda *_: result)
    _, told, _ = labctl("tempest", "identity")
    assert "identity: 1 passed, 1 failed, 0 known, 0 skipped in 2 s" in told, "the lab's name, not a test's"
    assert f"with keystone 1.0 (1a2b3c4d5e6f, changed) from {tmp_path}/keystone/1.0" in told
    _, told, _ = labctl("tempest", "identity", "-o", "json")
    assert json.loads(told)["sources"]["keystone"]["commit"] == "1a2b3c4d5e6f7a8b"
