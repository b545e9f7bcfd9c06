"""Tempest: what of a lab is written into its configuration, and what is refused. It judges only real labs."""

from __future__ import annotations

import configparser
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from openstack.connection import Connection
from support import ROOT, specify
from typer.testing import CliRunner

from labctl import progress, releases
from labctl.commands import tempest as tempest_command
from labctl.errors import LabError
from labctl.nightly import tempest, tempest_conf
from labctl.nightly.tempest_choice import Chosen, Set
from labctl.nightly.tempest_conf import Seen
from labctl.records.access import Access
from labctl.records.lab import Lab
from labctl.testing import junit

VERSIONS = {"compute": (2, 93), "placement": (1, 39), "volume": (3, 70), "image": (2, 15), "identity": (3, 14)}
OLD = {"compute": (2, 65), "volume": (3, 55), "image": (2, 7), "identity": (3, 11)}
SEEN = Seen(
    *("image-id", "flavor-1", "flavor-2", "network-id", ("router", "ext-gw-mode", "port-security")),
    *(("slo", "bulk_upload"), VERSIONS),
)


def access(state: Lab, directory: Path) -> Access:
    spec = state.spec
    return Access(
        lab=spec.name, namespace="n", hosts_file=directory / "hosts", auth_url="http://controller:5000/v3",
        region=spec.region, admin_password="50% $very #s", demo_password="x", demo_project="demo", demo_user="demo",
        release=spec.release, topology=spec.topology, components=frozenset(), external_network="provider",
        external_cidr="203.0.113.0/24", more_networks=(), external_ipv6="", vlan_physical="", vlan_ids=(),
        image="cirros", guest_user="cirros", flavors=("m1.nano", "m1.tiny"), nodes={},
        directory=directory, capabilities=frozenset(), up=state.up(), patience=3.0,
    )  # fmt: skip


def rendered(state: Lab, directory: Path, seen: Seen) -> configparser.RawConfigParser:
    release = releases.get(state.spec.release)
    lab, disk = access(state, directory), directory / "image.qcow2"
    parser = configparser.RawConfigParser()
    parser.read_string(tempest_conf.configuration(state, lab, release, seen, disk, directory))
    return parser


@pytest.mark.parametrize("topology", ["zed-2node", "train-2node", "rocky-2node", "ussuri-6node"])
def test_the_configuration_says_what_the_lab_is(topology: str, tmp_path: Path) -> None:
    path = ROOT / "topologies" / f"{topology}.yaml"
    state = Lab(tmp_path, specify(path), {"topology_file": str(path)})
    release = releases.get(state.spec.release)
    parser = rendered(state, tmp_path, SEEN)
    assert parser["auth"]["admin_password"] == "50% $$very #s"  # oslo.config replaces $NAME
    assert parser["identity"]["uri_v3"] == "http://controller:5000/v3"
    assert parser["compute"]["image_ref"] == parser["compute"]["image_ref_alt"] == "image-id"
    assert parser["validation"]["image_ssh_user"] == parser["validation"]["image_alt_ssh_user"] == "cirros"
    assert (parser["compute"]["flavor_ref"], parser["compute"]["flavor_ref_alt"]) == ("flavor-1", "flavor-2")
    assert parser["network"]["public_network_id"] == "network-id"
    assert parser["network-feature-enabled"]["api_extensions"] == "router,ext-gw-mode,port-security"
    assert parser.getboolean("network-feature-enabled", "port_security")
    assert parser["auth"]["tempest_roles"] == release.member_role
    assert parser["compute"]["build_timeout"] == "1800"  # three times as slow as the host
    assert parser.getboolean("service_available", "swift") == (topology != "rocky-2node")
    assert parser.getboolean("service_available", "nova")
    horizon = {"zed-2node": "http://controller/horizon/", "rocky-2node": ""}
    assert parser["dashboard"]["dashboard_url"] == horizon.get(topology, "http://controller/dashboard/")
    assert parser.getboolean("service_available", "horizon") == (topology != "rocky-2node")
    assert parser.getboolean("volume-feature-enabled", "api_v2") == (2 in release.cinder_api_versions)
    assert parser["volume"]["catalog_type"] == "volumev3"


@pytest.mark.parametrize("release", list(releases.RELEASES))
def test_every_release_pins_its_tempest_once(release: str) -> None:
    facts = releases.get(release)
    assert facts.tempest[0].startswith("tempest==")
    limits = tempest._limits(facts, "3.7")
    assert "\ntempest==" not in f"\n{limits}"
    assert limits or len(facts.tempest) > 1 or release == "mitaka", "its libraries must be of its time"


def test_tempest_that_cannot_be_imported_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tempest hides a command whose module fails to import, and runs nothing."""
    monkeypatch.setattr(tempest, "BESIDES", ())
    monkeypatch.setattr(tempest.retry, "again", lambda _: None)  # pip installs nothing
    program = Path(sys.executable).resolve()
    with pytest.raises(LabError) as failed:
        tempest._install(program, tmp_path / "venv", ["tempest==1"], "")
    assert "No module named 'tempest'" in str(failed.value)
    assert not (tmp_path / "venv" / "whole").exists()


def test_the_version_is_the_one_of_the_releases_constraints() -> None:
    for name, release in releases.RELEASES.items():
        file = ROOT / "labctl" / "releases" / "constraints" / f"{name}.txt"
        named = [line for line in file.read_text().splitlines() if line.startswith("tempest=")] if file.exists() else []
        assert named in ([], [release.tempest[0].replace("==", "===")])  # of later releases none is published


def test_what_an_api_can_decides_which_tests_are_enabled(tmp_path: Path) -> None:
    path = ROOT / "topologies" / "zed-2node.yaml"
    state = Lab(tmp_path, specify(path), {"topology_file": str(path)})
    new, old = (rendered(state, tmp_path, replace(SEEN, versions=versions)) for versions in (VERSIONS, OLD))
    assert (new["compute"]["min_microversion"], new["compute"]["max_microversion"]) == ("2.1", "2.93")
    assert (new["volume"]["min_microversion"], new["volume"]["max_microversion"]) == ("3.0", "3.70")
    assert (new["placement"]["min_microversion"], new["placement"]["max_microversion"]) == ("1.0", "1.39")
    assert old["volume"]["max_microversion"] == "3.55"
    assert "max_microversion" not in old["placement"]  # without placement, as in Mitaka
    assert not new.getboolean("compute-feature-enabled", "personality")
    gated = (
        ("compute-feature-enabled", "stable_rescue"),
        ("compute-feature-enabled", "hostname_fqdn_sanitization"),
        ("image-feature-enabled", "os_glance_reserved"),
        ("identity-feature-enabled", "access_rules"),
    )
    assert all(new.getboolean(*option) and not old.getboolean(*option) for option in gated)
    assert "max_microversion" not in rendered(state, tmp_path, replace(SEEN, versions={}))["compute"]


def test_images_are_imported_from_the_dashboards_address(tmp_path: Path) -> None:
    for topology, there in (("zed-2node", True), ("rocky-2node", False)):  # which has no dashboard
        path = ROOT / "topologies" / f"{topology}.yaml"
        state = Lab(tmp_path, specify(path), {"topology_file": str(path)})
        parser = rendered(state, tmp_path, SEEN)
        assert parser.getboolean("image-feature-enabled", "import_image") == there
        assert parser["image"]["http_image"] == ("http://10.0.0.11/horizon/" if there else "")


def test_all_that_swift_can_is_told(tmp_path: Path) -> None:
    class Answer:
        def json(self) -> object:
            return {"swift": {}, "account_quotas": {}, "bulk_upload": {}, "container_sync": {"realms": {}}}

    asked = list[str]()

    def get(url: str) -> Answer:
        asked.append(url)
        return Answer()

    proxy = SimpleNamespace(get_endpoint=lambda: "http://controller:8080/v1/AUTH_1")
    admin = SimpleNamespace(object_store=proxy, session=SimpleNamespace(get=get))
    assert tempest_conf._capabilities(cast("Connection", admin)) == ("swift", "account_quotas", "bulk_upload")
    assert asked == ["http://controller:8080/info"]


def test_what_is_run_is_a_set_an_expression_or_a_list(tmp_path: Path) -> None:
    assert Chosen().words == ["--smoke"]
    assert Chosen(Set.API).words == ["--regex", r"^tempest\.api\."]
    assert Chosen(Set.SCENARIO).words == ["--regex", r"^tempest\.scenario\."]
    assert (Set.SMOKE.time, Set.API.time) == ("2 h", "5 h")
    assert Chosen(regex="identity").words == ["--regex", "identity"]
    assert Chosen(file=tmp_path / "list").words == ["--load-list", str(tmp_path / "list")]


@pytest.mark.parametrize("words", [["--set", "api", "--regex", "x"], ["--regex", "x", "--load-list", "f"]])
def test_one_way_to_choose_is_enough(words: list[str]) -> None:
    app = typer.Typer()
    app.command()(tempest_command.tempest)
    result = CliRunner().invoke(app, ["lab", *words])
    assert isinstance(result.exception, LabError)
    assert "exclude each other" in result.exception.message


def test_skipped_tests_are_counted_by_their_reasons(tmp_path: Path) -> None:
    cases = [junit.Case(str(n), "skipped", 0, why) for n, why in enumerate(("a\nmore", "b", "a"))]
    result = tempest.Result(1, [*cases, junit.Case("t", "passed", 1)], tmp_path, 0, late=False, seconds=1)
    assert list(result.reasons().items()) == [("a", 2), ("b", 1)]


def test_a_lab_that_is_not_there_is_refused() -> None:
    with pytest.raises(LabError, match="there is no lab named 'nowhere'"):
        tempest.run("nowhere", Chosen(), 1, 60)


def test_results_keep_tempests_own_ids(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuite errors="0" failures="1" tests="3">'
        '<testcase classname="tempest.api.identity.v3.test_a.T" name="test_x[id-1,smoke]" time="0.5"/>'
        '<testcase classname="" name="setUpClass (tempest.api.b.T)" time="0"><skipped>not enabled</skipped></testcase>'
        '<testcase classname="tempest.api.c.T" name="test_y" time="1"><failure type="x">Traceback</failure></testcase>'
        "</testsuite>"
    )
    found = {case.name: case for case in junit.read(path)}
    assert found["tempest.api.identity.v3.test_a.T.test_x[id-1,smoke]"].outcome == "passed"
    skipped = found["setUpClass (tempest.api.b.T)"]
    assert (skipped.outcome, skipped.message) == ("skipped", "not enabled")
    assert found["tempest.api.c.T.test_y"].message == "Traceback"


def test_a_run_tells_failures_at_once_and_numbers_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempest, "TOLD", 0)
    output, said = tmp_path / "tempest.out", list[str]()
    output.write_text("{0} tempest.a.T.test_one [0.5s] ... ok\n{1} tempest.a.T.test_tw")
    with progress.subscribed(lambda event: said.append(event.text)):
        teller = tempest.Teller(output)
        teller()
        with output.open("a") as more:
            more.write(
                "o [1.25s] ... FAILED\n\nCaptured traceback:\n ... ok\n{1} setUpClass (tempest.b.U) ... SKIPPED: no\n"
            )
        teller()
    assert said == ["1 ok", "failed: tempest.a.T.test_two", "1 FAILED, 1 SKIPPED, 1 ok"]


def test_what_fails_on_every_lab_of_a_release_is_told_apart(tmp_path: Path) -> None:
    zed = releases.get("zed")
    (test,) = zed.tempest_known
    cases = [junit.Case(f"{test}[smoke]", "failed", 1, "Traceback"), junit.Case("tempest.a", "passed", 1)]

    def result(cases: list[junit.Case], status: int) -> tempest.Result:
        return tempest.Result(1, cases, tmp_path, status, late=False, seconds=1)

    marked = tempest.marked(cases, zed)
    assert [case.outcome for case in marked] == ["known", "passed"]
    assert "credential" in marked[0].message
    assert result(marked, 1).good
    assert not result(tempest.marked(cases, releases.get("train")), 1).good
    assert not result([*marked, junit.Case("tempest.b", "failed", 1)], 1).good
    assert not result(cases[1:], 1).good
    said = list[str]()
    with progress.subscribed(lambda event: said.append(event.text)):
        tempest.marked([junit.Case(f"{test}[smoke]", "passed", 1)], zed)
    assert "passed, although" in said[0]
