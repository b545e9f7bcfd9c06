"""The driver openstack against a cloud in memory: what is made, refused, left alone and left behind."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from memory_cloud import MemoryCloud
from memory_lab import killed, lab_of, refuse, up

from labctl.drivers.openstack import leftovers, machine, marks, quota
from labctl.drivers.openstack.machine import OpenStack
from labctl.errors import LabError
from labctl.lab import down, gc
from labctl.records import clouds
from labctl.records.lab import Lab


@pytest.fixture
def lab(lab_on_cloud: Lab) -> Lab:
    return lab_on_cloud


def test_a_lab_is_servers_ports_and_volumes_with_its_mark_and_goes_whole(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    made = cloud.made()
    assert (made["/servers"], made["/volumes"], made["/v2.0/floatingips"], made["/v2.0/networks"]) == (3, 1, 1, 2)
    first = next(s for s in cloud.things["/servers"].values() if s["name"] == "mine.first")
    port = cloud.things["/v2.0/ports"][first["networks"][0]["port"]]
    card = lab.spec.nodes["first"].interfaces[0]
    assert (port["mac_address"], port["fixed_ips"]) == (card.mac, [{"ip_address": "10.0.0.11"}])
    assert port["port_security_enabled"] is False
    assert first["config_drive"] is True

    up(lab)
    assert cloud.made() == made, "what is there is not made again"

    driver = OpenStack("memory")
    assert [left for node in lab.spec.nodes for left in driver.destroy(lab, node)] + driver.destroy_network(lab) == []
    assert cloud.made() == {"/v2/images": 2}, "golden images stay, as in the store"


def test_labctl_may_be_killed_at_any_request_and_nothing_is_made_twice_or_left(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    whole = cloud.made()
    number = 0
    for number in itertools.count(1, 3):
        leftovers.sweep(lab.name)
        for node in lab.spec.nodes:
            (lab.node_directory(node) / machine.ORIGIN).unlink()
        cloud.things["/v2/images"].clear()
        ended = not killed(cloud, number, lambda: up(lab))
        up(lab)
        assert cloud.made() == whole
        if ended:
            break
    assert number > 60

    for number in itertools.count(1, 3):
        up(lab)
        ended = not killed(cloud, number, lambda: leftovers.sweep(lab.name))
        assert leftovers.sweep(lab.name) == []
        assert set(cloud.made()) == {"/v2/images"}
        if ended:
            break
    assert number > 20


def test_what_has_a_labs_names_but_not_its_mark_is_never_touched(lab: Lab, cloud: MemoryCloud) -> None:
    network = {"name": "mine.management", "description": "somebody's"}
    theirs = cloud.post("network", "/v2.0/networks", {"network": network})["network"]["id"]
    server = {"name": "mine.first", "metadata": {}}
    other = cloud.post("compute", "/servers", {"server": server})["server"]["id"]
    up(lab)
    assert sum(s["name"] == "mine.first" for s in cloud.things["/servers"].values()) == 2
    assert leftovers.sweep("mine") == []
    assert cloud.things["/v2.0/networks"].keys() == {"outer", theirs}
    assert cloud.things["/servers"].keys() == {other}


def test_two_labs_of_one_name_in_a_project_are_known_by_their_homes(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    up(lab)
    before = cloud.made()
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "hers"))
    hers = lab_of(tmp_path, "mine")
    up(hers)
    assert cloud.made()["/servers"] == 2 * before["/servers"]
    assert leftovers.sweep("mine") == []
    assert {**cloud.made(), "/v2/images": 0} == {**before, "/v2/images": 0}


def test_a_lab_whose_record_is_lost_is_found_by_gc_and_removed_by_down(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    (lab.directory / "lab.json").unlink()
    (found,) = [finding for finding in gc.find() if finding.name == "mine" and finding.kind == "lab"]
    assert any("server mine.first of the cloud memory" in part for part in found.parts)
    assert down.down("mine")
    assert set(cloud.made()) == {"/v2/images"}
    assert clouds.known() == {}


def test_the_project_is_asked_for_room_before_anything_is_made(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.limits |= {"maxTotalInstances": 2, "totalRAMUsed": 51100}
    with pytest.raises(LabError) as failed:
        up(lab)
    assert failed.value.message == (
        "mine needs 3 servers; the project may have 2 more; and 1280 MiB of memory; the project may have 100 more"
    )
    assert cloud.made() == {}
    assert clouds.known() == {}


@pytest.mark.parametrize(
    ("gone", "said"),
    [("volumes", "has additional disks; the cloud memory has no volumes"), ("outside", "has no external network")],
)
def test_what_a_cloud_cannot_do_is_said_before_anything_is_made(
    gone: str, said: str, lab: Lab, cloud: MemoryCloud
) -> None:
    if gone == "volumes":
        cloud.services.remove("block-storage")
    else:
        del cloud.things["/v2.0/networks"]["outer"]
    with pytest.raises(LabError, match=said):
        up(lab)
    assert cloud.made() == {}


def test_a_server_in_error_is_told_in_the_clouds_words(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.server_status, cloud.fault = "ERROR", "No valid host was found."
    with pytest.raises(
        LabError, match=r"gateway of mine: the cloud memory could not run it: No valid host was found\."
    ):
        up(lab)
    assert leftovers.sweep("mine") == []


def test_what_cannot_be_removed_is_named_with_the_clouds_reason(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    cloud.refused["DELETE /volumes"] = (400, "Volume has dependent snapshots")
    with pytest.raises(LabError, match=r"could not remove all of mine: volume mine\.second\.data of the cloud memory"):
        down.down("mine")
    cloud.refused.clear()
    assert down.down("mine")
    assert set(cloud.made()) == {"/v2/images"}


def test_a_cloud_that_does_not_answer_keeps_down_from_forgetting(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    cloud.refused["GET /servers"] = (503, "Service Unavailable")
    with pytest.raises(LabError, match=r"what it has on the cloud memory: .*Service Unavailable"):
        down.down("mine")
    assert "mine" in clouds.known()


def test_servers_are_kept_apart_where_a_topology_says_so(lab: Lab, cloud: MemoryCloud) -> None:
    lab.spec = lab.spec.model_copy(update={"anti_affinity": True})
    up(lab)
    (group,) = cloud.things["/os-server-groups"].values()
    assert group["policies"] == ["anti-affinity"]
    hints = {server["name"]: server["hints"] for server in cloud.things["/servers"].values()}
    assert hints == {"mine.gateway": {}, "mine.first": {"group": group["id"]}, "mine.second": {"group": group["id"]}}
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


def test_a_cable_is_the_admin_state_of_its_port(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    (port,) = (p for p in cloud.things["/v2.0/ports"].values() if p["name"] == "mine.first.eth0")
    for state in (False, True):
        OpenStack("memory").plug(lab, "first", "management", state)
        assert port["admin_state_up"] is state


def test_a_lab_whose_cloud_was_a_lab_that_is_gone_goes_too(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    clouds.remember("mine", "lab:gone")
    lab.spec = lab.spec.model_copy(update={"cloud": "lab:gone"})
    lab.save()
    before = len(cloud.requests)
    assert down.down("mine")
    assert len(cloud.requests) == before, "there is nothing to ask"
    assert clouds.known() == {}


def test_the_mtu_is_that_of_the_projects_networks_else_of_one_made_to_ask(home: Path, cloud: MemoryCloud) -> None:
    driver = OpenStack("memory")
    assert driver.mtu("mine") == 1500
    assert cloud.made() == {}
    assert clouds.known() == {}, "a lab that only asked is forgotten"
    cloud.post("network", "/v2.0/networks", {"network": {"name": "somebody's", "mtu": 1442}})
    cloud.requests.clear()
    assert driver.mtu("mine") == 1442
    assert cloud.requests == ["GET /v2.0/networks"], "nothing is made where there is one to look at"


def test_a_question_for_the_mtu_that_was_cut_off_is_found_by_gc_and_by_the_next_question(
    home: Path, cloud: MemoryCloud
) -> None:
    driver = OpenStack("memory")

    def cut_off() -> None:
        assert killed(cloud, 3, lambda: driver.mtu("mine")), "after the network was made"
        (network,) = (n for n in cloud.things["/v2.0/networks"].values() if n["id"] != "outer")
        assert marks.mine(network, "mine")

    cut_off()
    found = gc.find()
    assert [(f.kind, f.name, f.parts) for f in found] == [("lab", "mine", ("network mine.mtu of the cloud memory",))]
    assert gc.remove(found) == []
    assert (cloud.made(), clouds.known()) == ({}, {})
    cut_off()
    assert down.down("mine")
    assert (cloud.made(), clouds.known()) == ({}, {})
    cut_off()
    assert driver.mtu("mine") == 1500
    assert (cloud.made(), clouds.known()) == ({}, {})


def test_a_lab_with_something_on_one_cloud_is_not_asked_for_on_another(home: Path, cloud: MemoryCloud) -> None:
    clouds.remember("mine", "elsewhere")
    with pytest.raises(LabError, match="mine has something on the cloud elsewhere"):
        OpenStack("memory").mtu("mine")
    assert clouds.known() == {"mine": "elsewhere"}


def test_a_machine_that_does_not_shut_down_is_stopped_and_said_so(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenStack, "connect", refuse)
    up(lab)
    driver = OpenStack("memory")
    assert driver.stop(lab, "first", 1)
    assert driver.stop(lab, "first", 1), "it is down"
    cloud.shuts_down = False
    assert not driver.stop(lab, "second", 1)
    assert not driver.machine(lab, "second").running


def test_what_a_lab_needs_is_counted(lab: Lab) -> None:
    wanted = quota.needed(lab)
    assert (wanted["servers"], wanted["GiB of volumes"], wanted["ports"]) == (3, 1, 4)
