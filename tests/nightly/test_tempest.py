"""Tempest: what of a lab is written into its configuration, and what is refused. It judges only real labs."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from support import ROOT, specify

from labctl import progress, releases
from labctl.errors import LabError
from labctl.lab.access import Access
from labctl.lab.state import LabState
from labctl.nightly import junit, tempest, tempest_conf
from labctl.nightly.tempest import Chosen
from labctl.nightly.tempest_conf import Seen

SEEN = Seen("image-id", "flavor-1", "flavor-2", "network-id", ("router", "ext-gw-mode"), ("slo", "bulk_upload"))


def access(state: LabState, directory: Path) -> Access:
    spec = state.spec
    return Access(
        lab=spec.name, namespace="n", hosts_file=directory / "hosts", auth_url="http://controller:5000/v3",
        region=spec.region, admin_password="very-secret", demo_password="x", demo_project="demo", demo_user="demo",
        release=spec.release, topology=spec.topology, components=frozenset(), external_network="provider",
        external_cidr="203.0.113.0/24", image="cirros", guest_user="cirros", flavors=("m1.nano", "m1.tiny"), nodes={},
        directory=directory, capabilities=frozenset(), up=state.up(), patience=3.0,
    )  # fmt: skip


@pytest.mark.parametrize("topology", ["zed-2node", "train-2node", "rocky-2node", "ussuri-6node"])
def test_the_configuration_says_what_the_lab_is(topology: str, tmp_path: Path) -> None:
    path = ROOT / "topologies" / f"{topology}.yaml"
    state = LabState(tmp_path, specify(path), {"topology_file": str(path)})
    release = releases.get(state.spec.release)
    parser = configparser.RawConfigParser()
    parser.read_string(tempest_conf.configuration(state, access(state, tmp_path), release, SEEN, tmp_path))
    assert parser["identity"]["uri_v3"] == "http://controller:5000/v3"
    assert parser["compute"]["image_ref"] == "image-id"
    assert (parser["compute"]["flavor_ref"], parser["compute"]["flavor_ref_alt"]) == ("flavor-1", "flavor-2")
    assert parser["network"]["public_network_id"] == "network-id"
    assert parser["network-feature-enabled"]["api_extensions"] == "router,ext-gw-mode"
    assert parser["auth"]["tempest_roles"] == release.member_role
    assert parser["compute"]["build_timeout"] == "1800"  # three times as slow as the host
    assert parser.getboolean("service_available", "swift") == (topology != "rocky-2node")
    assert parser.getboolean("service_available", "nova")
    horizon = {"zed-2node": "http://controller/horizon/", "rocky-2node": ""}
    assert parser["dashboard"]["dashboard_url"] == horizon.get(topology, "http://controller/dashboard/")
    assert parser.getboolean("service_available", "horizon") == (topology != "rocky-2node")
    assert parser.getboolean("volume-feature-enabled", "api_v2") == (2 in release.cinder_api_versions)


@pytest.mark.parametrize("release", list(releases.RELEASES))
def test_every_release_pins_its_tempest_once(release: str) -> None:
    facts = releases.get(release)
    assert facts.tempest[0].startswith("tempest==")
    limits = tempest._limits(facts, "3.7")
    assert "\ntempest==" not in f"\n{limits}"
    assert bool(limits) == (facts.pypi is not None)


def test_the_version_is_the_one_of_the_releases_constraints() -> None:
    for name, release in releases.RELEASES.items():
        file = ROOT / "labctl" / "releases" / "constraints" / f"{name}.txt"
        if file.exists():
            assert release.tempest[0].replace("==", "===") in file.read_text().splitlines()


def test_what_is_run_is_smoke_an_expression_or_a_list(tmp_path: Path) -> None:
    assert Chosen().words == ["--smoke"]
    assert Chosen(regex="identity").words == ["--regex", "identity"]
    assert Chosen(file=tmp_path / "list").words == ["--load-list", str(tmp_path / "list")]


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
    assert found["setUpClass (tempest.api.b.T)"].outcome == "skipped"
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
    assert "passed, though" in said[0]
