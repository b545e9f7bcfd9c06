"""The hops of an upgrade follow from the releases' facts, and what cannot go is refused before anything is done."""

from __future__ import annotations

import pytest
from support import ROOT, specify

from labctl import releases
from labctl.errors import LabError
from labctl.releases.model import PackageSource
from labctl.upgrade import chain

TRAIN = specify(ROOT / "topologies" / "train-2node.yaml")


def test_each_release_is_passed_once_in_its_order() -> None:
    hops = chain.plan(TRAIN, "2024.1")
    assert [hop.after.release for hop in hops] == [
        *("ussuri", "victoria", "wallaby", "xena", "yoga", "zed", "antelope", "caracal")
    ]
    assert [hop.before.release for hop in hops] == ["train", *(hop.after.release for hop in hops[:-1])]
    assert hops[0].snapshot == "before-ussuri"
    assert {(hop.after.base, hop.after.package_source) for hop in hops} == {("debian12", "pypi")}
    assert all(hop.after.nodes == TRAIN.nodes for hop in hops)


def test_a_lab_that_is_there_has_no_hops() -> None:
    assert chain.plan(TRAIN, "train") == ()


def test_until_stops_on_the_way() -> None:
    assert [hop.after.release for hop in chain.plan(TRAIN, "caracal", "victoria")] == ["ussuri", "victoria"]
    with pytest.raises(LabError, match="Caracal is not on the way"):
        chain.plan(TRAIN, "victoria", "caracal")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("ussury", "did you mean 'ussuri'"),
        ("rocky", "labctl knows no way from Train to Rocky"),
        ("gazpacho", "labctl knows no way from Train to Gazpacho"),
    ],
)
def test_an_impossible_target_is_refused_with_what_would_work(target: str, said: str) -> None:
    with pytest.raises(LabError) as refused:
        chain.plan(TRAIN, target)
    assert said in f"{refused.value.message} {refused.value.hint}", refused.value.message


def test_an_upgrade_only_goes_forward() -> None:
    ussuri = TRAIN.model_copy(update={"release": "ussuri"})
    with pytest.raises(LabError, match="Train is older than Ussuri"):
        chain.plan(ussuri, "train")


def test_distribution_packages_are_refused() -> None:
    zed = specify(ROOT / "topologies" / "zed-2node.yaml")
    with pytest.raises(LabError, match="its Zed comes from debian packages"):
        chain.plan(zed, "antelope")


def test_virtual_machines_are_refused() -> None:
    machines = TRAIN.model_copy(update={"driver": "libvirt", "own_kernel": True})
    with pytest.raises(LabError, match="train-2node has virtual machines"):
        chain.plan(machines, "ussuri")


def test_services_that_the_next_release_lacks_are_named() -> None:
    ussuri = specify(ROOT / "topologies" / "ussuri-6node.yaml")
    with pytest.raises(LabError) as refused:
        chain.plan(ussuri, "victoria")
    for service in ("gnocchi", "ceilometer", "aodh"):
        assert f"labctl has no {service} for Victoria" in refused.value.message


def test_the_facts_of_upgrades_fit_together() -> None:
    known = releases.EVERY
    followed = [name for r in known.values() if r.upgrade for name in r.upgrade.after]
    assert set(followed) <= set(known)
    assert len(known) == len(releases.RELEASES) + len(releases.PASSED)
    for release in known.values():
        if release.upgrade:
            assert release.has("nova", PackageSource.PYPI), release.name
            assert release.pypi is not None, release.name
    for name in releases.PASSED:  # a release that is only passed leads somewhere
        assert name in followed, name
