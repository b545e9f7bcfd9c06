"""Plans: what `up` would do, kept as golden files so that a reviewer sees what a change does to an install."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support import IDENTITY, ROOT, SMALL, planned, specify, variants, whole, write

from labctl.commands.plan import print_plan
from labctl.operations.ini import Ini
from labctl.operations.node import Command, File, Unit, flatten
from labctl.plan.planner import Plan, Stage
from labctl.secret import Secret, hide, reveal
from labctl.services.base import Context
from labctl.topology.spec import LabSpec
from labctl.topology.stages import STAGES

GOLDEN = ROOT / "tests" / "golden"
ZED = ROOT / "topologies" / "zed-2node.yaml"
every_variant = pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))


def rendered(spec: LabSpec, tree: str) -> dict[str, str]:
    """Everything a golden directory holds: path to text."""
    made = planned(spec)
    files = {"plan.txt": tree}
    for node in spec.nodes:
        for file in made.files(node):
            files[f"{node}{file.path}"] = hide(file.content)
    return files


def with_secrets(value: str) -> Callable[[str], str]:
    names = planned(specify(ZED)).secrets()
    return lambda text: reveal(text, {name: Secret(f"{name}-{value}") for name in names})


def all_files(made: Plan) -> list[File]:
    found = []
    for stage in made.stages:
        for part in (stage.nodes, stage.after):
            for items in part.values():
                found += [o for o in flatten(items) if isinstance(o, File)]
    return found


@every_variant
def test_a_plan_is_what_its_golden_files_say(
    topology: Path, base: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = whole(topology, base)
    print_plan(spec)
    files = rendered(spec, capsys.readouterr().out)
    place = GOLDEN / f"{topology.stem}-{spec.release}-{base}"
    if request.config.getoption("--update-golden"):
        shutil.rmtree(place, ignore_errors=True)
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)

    there = {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()}
    advice = f"if this is meant: pytest {Path(__file__).relative_to(ROOT)} --update-golden, then look at git diff"
    assert sorted(there) == sorted(files), advice
    for name, text in files.items():
        assert there[name] == text, f"{place / name} differs; {advice}"


@every_variant
def test_the_same_spec_gives_the_same_plan(topology: Path, base: str) -> None:
    spec = specify(topology, base=base)
    again = LabSpec.model_validate_json(spec.model_dump_json())
    assert planned(spec) == planned(again)
    plain = str
    assert [s.digest(plain) for s in planned(spec).stages] == [s.digest(plain) for s in planned(again).stages]


@every_variant
def test_stages_come_in_their_order(topology: Path, base: str) -> None:
    names = [s.name for s in planned(specify(topology, base=base)).stages]
    assert names == [s for s in STAGES if s in names]
    assert names[:4] == ["prepare", "packages", "sql", "infrastructure"]
    assert names[-1] == "verify"


@every_variant
def test_no_secret_has_a_value_in_a_plan(topology: Path, base: str) -> None:
    made = planned(specify(topology, base=base))
    assert {"ADMIN_PASS", "DEMO_PASS", "KEYSTONE_DBPASS"} <= made.secrets()
    for file in all_files(made):
        for line in file.content.splitlines():
            key, _, value = line.partition("=")
            if re.search(r"password$|secret$|^connection$|transport_url$", key.strip().lower()):
                assert "\x02" in value, f"{file.path}: {line}"


@every_variant
def test_every_file_says_where_its_content_comes_from(topology: Path, base: str) -> None:
    for file in all_files(planned(specify(topology, base=base))):
        assert file.source.strip(), file.path


@every_variant
def test_every_option_stands_below_its_source(topology: Path, base: str) -> None:
    inis = [
        f for f in all_files(planned(specify(topology, base=base))) if f.content.startswith("# Made by labctl; changes")
    ]
    assert inis
    for file in inis:
        source = ""
        for line in file.content.splitlines():
            if line.startswith("["):
                source = ""
            elif line.startswith("#"):
                source = line.removeprefix("#").strip()
            elif "=" in line:
                assert source, f"{file.path}: no source above {line}"


@every_variant
def test_a_file_that_stages_share_is_the_same_in_all_of_them(topology: Path, base: str) -> None:
    made = planned(specify(topology, base=base))
    for node in specify(topology, base=base).nodes:
        first: dict[str, str] = {}
        for file in made.files(node):
            assert first.setdefault(file.path, file.content) == file.content, file.path


@every_variant
def test_a_unit_is_restarted_when_any_of_its_files_changes(topology: Path, base: str) -> None:
    """The unit's inputs hold every configuration file of its project on that node."""
    made = planned(specify(topology, base=base))
    starts: dict[tuple[str, str], tuple[str, ...]] = {}  # of a unit that several daemons share, all of them
    for stage in made.stages:
        for part in (stage.nodes, stage.after):
            for node, items in part.items():
                for unit in (o for o in flatten(items) if isinstance(o, Unit)):
                    starts[node, unit.name] = starts.get((node, unit.name), ()) + unit.inputs
    units = 0
    for (node, name), inputs in starts.items():
        project = name.split("-")[0]
        for file in made.files(node):
            if file.path.startswith(f"/etc/{project}/"):
                assert any(file.content in text for text in inputs), f"{name}: {file.path}"
                units += 1
    assert units


# --- digests ---------------------------------------------------------------------------------------


def test_a_digest_changes_with_the_content_of_a_file() -> None:
    stage = Stage("configure", {"n": (File("/etc/x", "a = 1\n"),)})
    other = Stage("configure", {"n": (File("/etc/x", "a = 2\n"),)})
    assert stage.digest(str) != other.digest(str)
    assert stage.digest(str) == Stage("configure", {"n": (File("/etc/x", "a = 1\n"),)}).digest(str)


@pytest.mark.parametrize("change", [{"mode": "0600"}, {"owner": "nova"}, {"path": "/etc/y"}])
def test_a_digest_changes_with_where_and_whose_a_file_is(change: dict[str, str]) -> None:
    file = File("/etc/x", "a = 1\n")
    changed = replace(file, **change)
    assert Stage("s", {"n": (file,)}).digest(str) != Stage("s", {"n": (changed,)}).digest(str)


def test_a_digest_changes_with_what_runs_after_the_apis() -> None:
    assert Stage("s").digest(str) != Stage("s", after={"n": (Command("c", "true"),)}).digest(str)


def test_a_digest_changes_with_the_value_of_a_secret() -> None:
    stages = {s.name: s for s in planned(specify(ZED)).stages}
    before, after = with_secrets("old"), with_secrets("new")
    for name in ("infrastructure", "keystone", "catalog", "configure", "databases", "fixtures"):
        assert stages[name].digest(before) != stages[name].digest(after), name
    assert stages["packages"].digest(before) == stages["packages"].digest(after)


def test_only_stages_with_changed_inputs_get_another_digest(tmp_path: Path) -> None:
    text = ZED.read_text()
    before = planned(specify(write(tmp_path, text))).stages
    after = planned(specify(write(tmp_path, text + "options: {workers: 3}\n"))).stages
    changed = [a.name for a, b in zip(before, after, strict=True) if a.digest(str) != b.digest(str)]
    assert "configure" in changed
    assert not {"prepare", "packages", "sql", "infrastructure", "catalog"} & set(changed)


# --- what is left out ------------------------------------------------------------------------------


def test_a_lab_without_keystone_ends_with_its_infrastructure(tmp_path: Path) -> None:
    assert [s.name for s in planned(specify(write(tmp_path, SMALL))).stages] == [
        "prepare",
        "packages",
        "sql",
        "infrastructure",
    ]


def test_keystone_away_from_its_database_is_configured_after_the_accounts(tmp_path: Path) -> None:
    made = planned(specify(write(tmp_path, IDENTITY)))
    (stage,) = (s for s in made.stages if s.name == "keystone")
    assert (list(stage.nodes), list(stage.after)) == (["data"], ["api"])
    assert "/etc/keystone/keystone.conf" in [f.path for f in made.files("api")]


def test_a_service_that_no_node_runs_leaves_no_trace(tmp_path: Path) -> None:
    made = planned(specify(write(tmp_path, IDENTITY)))
    text = repr(made.stages)
    assert not [word for word in ("nova", "neutron", "glance", "rabbit") if re.search(rf"/etc/{word}", text)]
    assert made.secrets() == {"ADMIN_PASS", "DEMO_PASS", "KEYSTONE_DBPASS"}


# --- configuration files ---------------------------------------------------------------------------


def test_a_later_setting_wins_and_brings_its_source() -> None:
    conf = Ini("/etc/x.conf").set("DEFAULT", "guide", {"a": 1, "b": True})
    text = conf.set("DEFAULT", "facts 3", {"a": 2}).render()
    assert text.splitlines()[1:] == ["", "[DEFAULT]", "# facts 3", "a = 2", "# guide", "b = true"]
    assert conf.file().source == "facts 3; guide"


def test_a_copy_of_a_file_with_other_options_leaves_the_first_as_it_was() -> None:
    first = Ini("/etc/x").set("DEFAULT", "a", {"my_ip": "", "debug": True}).set("b", "b", {"c": 1})
    text = first.render()
    assert first.but("DEFAULT", "a", {"my_ip": "10.0.0.1"}).render() == text.replace("my_ip = ", "my_ip = 10.0.0.1")
    assert first.render() == text


def test_what_a_lab_s_nodes_share_is_made_once_for_each_lab() -> None:
    made: list[tuple[str, bool]] = []

    def make(ctx: Context, server: bool) -> str:
        made.append((ctx.lab.name, server))
        return f"{ctx.lab.name} {server}"

    spec = specify(ZED)
    first, second = Context.of(spec), Context.of(spec.model_copy(update={"name": "other"}))
    for context in (first, first, second):
        for server in (True, False):
            assert context.once(make, server) == f"{context.lab.name} {server}"
    assert made == [("zed-2node", True), ("zed-2node", False), ("other", True), ("other", False)]
