"""The driver openstack against a cloud in memory: what is made, refused, left alone and left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_cloud import MemoryCloud
from support import SMALL, specify, write

from labctl import drivers
from labctl.drivers.openstack import cloud as clouds_module
from labctl.drivers.openstack import flavors, leftovers, machine, marks, quota, tunnel, uploads
from labctl.drivers.openstack.machine import OpenStack
from labctl.errors import LabError
from labctl.host import files, lock, network, paths, process
from labctl.images import gateway
from labctl.lab import down, gc, snapshot
from labctl.records import clouds
from labctl.records.lab import Lab, locked
from labctl.topology import load

WITH_DISK = SMALL.replace("runs: [etcd]", "disks: {data: 1 GiB}\n    runs: [etcd]")
MIB, GIB = 2**20, 2**30


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, home: Path) -> MemoryCloud:
    made = MemoryCloud()
    clouds_module.opened.cache_clear()
    for module in (machine, leftovers, uploads):
        monkeypatch.setattr(module, "opened", lambda name: made)
    # what needs root, a gateway that answers, and images of hundreds of megabytes
    monkeypatch.setattr(machine.network, "create", lambda spec: None)
    monkeypatch.setattr(machine.network, "pin", lambda spec: None)
    monkeypatch.setattr(machine.network, "delete", lambda name: [])
    monkeypatch.setattr(tunnel, "broken", lambda lab: "not there yet")
    monkeypatch.setattr(tunnel, "ensure", lambda lab, cloud, address: None)
    monkeypatch.setattr(tunnel, "close", lambda name: [])
    monkeypatch.setattr(gateway, "ensure", lambda: _image(home, "cloud-of-the-gateway"))
    return made


def _image(home: Path, name: str) -> Path:
    image = home / "images" / name
    if not image.exists():
        (image / "tree").mkdir(parents=True)
        # QEMU's magic, version 3, and a size of 256 MiB at byte 24
        header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (256 * MIB).to_bytes(8, "big") + bytes(72)
        (image / "tree/disk.qcow2").write_bytes(header)
    return image


@pytest.fixture
def lab(tmp_path: Path, cloud: MemoryCloud) -> Lab:
    return _lab(tmp_path, "mine")


def _lab(directory: Path, name: str) -> Lab:
    path = write(directory, WITH_DISK)
    lab = Lab.create(specify(path, name=name).model_copy(update={"driver": "openstack", "cloud": "memory"}), path)
    lab.ensure_keys()
    lab.record_image((_image(paths.home(), "cloud-of-the-nodes"),))
    return lab


def up(lab: Lab) -> None:
    driver = OpenStack("memory")
    driver.create_network(lab)
    for node in lab.spec.nodes:
        driver.create(lab, node)
        driver.start(lab, node)


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


def killed(cloud: MemoryCloud, number: int, work: Callable[[], object]) -> bool:
    """Do some work, and kill it at its request of that number; False if it ended before."""
    cloud.requests.clear()
    cloud.killed_at = number
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        cloud.killed_at = 0
    return False


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
    hers = _lab(tmp_path, "mine")
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


# --- clouds that filter packets ----------------------------------------------------------------------


def filtering(cloud: MemoryCloud, how: str) -> None:
    if how == "extension":
        cloud.aliases.remove("port-security")
    else:
        cloud.strict = True


@pytest.mark.parametrize("how", ["extension", "policy"])
def test_where_ports_filter_in_any_case_known_addresses_pass_by_pairs_and_an_open_group(
    how: str, lab: Lab, cloud: MemoryCloud
) -> None:
    filtering(cloud, how)
    up(lab)
    ports = {port["name"]: port for port in cloud.things["/v2.0/ports"].values()}
    assert not any("port_security_enabled" in port for port in ports.values())
    anywhere = [{"ip_address": "0.0.0.0/0"}, {"ip_address": "::/0"}]
    assert ports["mine.first.eth0"]["allowed_address_pairs"] == anywhere
    mac = network.own_mac(lab.spec, "management")
    assert mac not in {card.mac for node in lab.spec.nodes.values() for card in node.interfaces}
    assert ports["mine.gateway.management"]["allowed_address_pairs"] == [{**e, "mac_address": mac} for e in anywhere]

    groups = {group["name"]: group for group in cloud.things["/v2.0/security-groups"].values()}
    assert groups.keys() == {"mine.gateway", "mine.open"}
    assert all(marks.mine(group, "mine") for group in groups.values())
    everything = groups["mine.open"]["id"]
    assert {tuple(p["security_groups"]) for name, p in ports.items() if "outside" not in name and name} == {
        (everything,)
    }
    rules = [r for r in cloud.things["/v2.0/security-group-rules"].values() if r["security_group_id"] == everything]
    assert sorted((rule["direction"], rule["ethertype"]) for rule in rules) == [
        ("egress", "IPv4"), ("egress", "IPv6"), ("ingress", "IPv4"), ("ingress", "IPv6"),
    ]  # fmt: skip
    assert not any(rule.get("protocol") for rule in rules)
    assert ports["mine.gateway.outside"]["security_groups"] == [groups["mine.gateway"]["id"]], "only SSH from outside"

    made = cloud.made()
    up(lab)
    assert cloud.made() == made
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


def test_labctl_may_be_killed_while_it_makes_an_open_group(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.aliases.remove("port-security")
    up(lab)
    rules = {(r["direction"], r["ethertype"]) for r in cloud.things["/v2.0/security-group-rules"].values()}
    whole = cloud.made()
    first = next(n for n, r in enumerate(cloud.requests, 1) if r == "GET /v2.0/security-group-rules")
    for number in range(first - 1, first + 4):
        assert leftovers.sweep("mine") == []
        cloud.things["/v2.0/security-group-rules"].clear()
        cloud.things["/v2/images"].clear()
        for node in lab.spec.nodes:
            (lab.node_directory(node) / machine.ORIGIN).unlink()
        assert killed(cloud, number, lambda: up(lab))
        up(lab)
        assert cloud.made() == whole
        found = cloud.things["/v2.0/security-group-rules"].values()
        assert {(r["direction"], r["ethertype"]) for r in found} == rules


@pytest.mark.parametrize("how", ["extension", "policy"])
def test_neutrons_agents_on_a_provider_network_need_ports_without_a_filter(
    how: str, cloud: MemoryCloud, home: Path, tmp_path: Path
) -> None:
    path = load.find("epoxy-2node")
    spec = specify(path, name="mine").model_copy(update={"driver": "openstack", "cloud": "memory"})
    lab = Lab.create(spec, path)
    lab.ensure_keys()
    cloud.limits = dict.fromkeys(cloud.limits, -1)
    filtering(cloud, how)
    with pytest.raises(LabError) as failed:
        OpenStack("memory").create_network(lab)
    assert "has Neutron's agents on the provider network provider, behind which are MAC" in failed.value.message
    reason = "it has no extension port-security" if how == "extension" else "is disallowed by policy"
    assert reason in failed.value.message
    assert failed.value.hint.endswith("with another driver")
    assert "/servers" not in cloud.made()
    if how == "extension":
        assert cloud.made() == {}, "it was said before anything was made"
        assert clouds.known() == {}
    assert leftovers.sweep("mine") == []


def test_a_cloud_without_pairs_too_is_refused(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.aliases -= {"port-security", "allowed-address-pairs"}
    with pytest.raises(LabError, match="filters the packets of a lab's networks and does not let that be turned off"):
        up(lab)
    assert cloud.made() == {}


# --- images and flavors ------------------------------------------------------------------------------


def test_an_image_is_uploaded_once_and_one_that_was_cut_off_again(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = lab.layers
    cloud.refused["PUT /v2/images"] = (500, "connection reset")
    with pytest.raises(LabError, match="connection reset"):
        uploads.ensure(cloud, image)
    assert cloud.made() == {}
    cloud.refused.clear()
    uploads_killed = len(cloud.requests) + 3
    cloud.killed_at = uploads_killed
    with pytest.raises(KeyboardInterrupt):
        uploads.ensure(cloud, image)
    cloud.killed_at = 0
    first = uploads.ensure(cloud, image)
    assert uploads.ensure(cloud, image) == first
    assert cloud.made() == {"/v2/images": 1}
    # the image of a server's disk has all properties of the one that it was made of
    cloud.things["/v2/images"][first][marks.KEY] = marks.of(lab, "first")
    assert uploads.ensure(cloud, image) != first


@pytest.fixture
def raw(lab: Lab, cloud: MemoryCloud) -> Path:
    """A golden disk of 5 MiB, for a cloud that prefers raw ones."""
    if process.missing("qemu-img"):
        pytest.skip("no qemu-img")
    (image,) = lab.layers
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", image / "tree/disk.qcow2", "5M"])
    cloud.image_format = "raw"
    return image


def test_a_cloud_that_prefers_raw_images_gets_them_whole(raw: Path, cloud: MemoryCloud) -> None:
    made = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
    assert (made["disk_format"], made["size"], made["min_disk"]) == ("raw", 5 * MIB, 1)
    assert made["head"] == bytes(4), "no header: it is the disk itself"
    assert not list(uploads.directory().iterdir()), "the raw disk is written for the upload only"
    assert uploads.ensure(cloud, raw) == made["id"]
    cloud.image_format = "qcow2"
    other = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
    assert (other["disk_format"], other["head"]) == ("qcow2", b"QFI\xfb"), "one of the other format is not taken for it"


def test_a_raw_upload_that_was_cut_off_is_found_and_made_anew(raw: Path, cloud: MemoryCloud) -> None:
    number = 0
    for number in itertools.count(1):
        cloud.things["/v2/images"].clear()
        ended = not killed(cloud, number, lambda: uploads.ensure(cloud, raw))
        made = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
        assert (made["status"], made["size"]) == ("active", 5 * MIB)
        assert cloud.made() == {"/v2/images": 1}
        assert not list(uploads.directory().iterdir())
        if ended:
            break
    assert number > 4


def test_an_image_that_a_cloud_calls_active_but_has_not_whole_is_not_used(raw: Path, cloud: MemoryCloud) -> None:
    cloud.cut = 3 * MIB
    cloud.refused["DELETE /v2/images"] = (503, "Service Unavailable")
    with pytest.raises(LabError, match=f"has {3 * MIB} bytes of .*; {5 * MIB} were sent"):
        uploads.ensure(cloud, raw)
    (half,) = cloud.things["/v2/images"]
    cloud.refused.clear()
    cloud.cut = -1
    assert uploads.ensure(cloud, raw) != half
    assert half not in cloud.things["/v2/images"]


def test_a_raw_disk_that_a_killed_labctl_left_is_a_leftover_unless_it_is_read(raw: Path, cloud: MemoryCloud) -> None:
    left = uploads.directory() / raw.name
    left.mkdir(parents=True)
    (left / "disk.raw").write_bytes(bytes(4096))
    with lock.exclusive(uploads.guard(raw.name), "uploads it"):
        assert not [finding for finding in gc.find() if finding.kind == "upload"]
    (found,) = (finding for finding in gc.find() if finding.kind == "upload")
    assert found.parts == (f"directory {left}",)
    assert gc.remove([found]) == []
    assert not left.exists()


def golden_on_clouds() -> list[gc.Finding]:
    return [finding for finding in gc.find(images=True) if finding.kind in ("cloud image", "cloud")]


def test_golden_images_on_a_cloud_go_with_gc_images_when_no_lab_or_server_uses_them(
    lab: Lab, cloud: MemoryCloud, home: Path
) -> None:
    up(lab)
    assert golden_on_clouds() == [], "the lab's and the gateway's are in use"
    theirs = cloud.post("image", "/v2/images", {uploads.GOLDEN: "cloud-of-the-nodes", marks.KEY: "0123456789ab"})["id"]
    other = cloud.post("image", "/v2/images", {"name": "somebody's"})["id"]
    assert down.down("mine")
    assert clouds.known() == {}
    cloud.requests.clear()
    assert not [finding for finding in gc.find() if finding.kind == "cloud image"]
    assert cloud.requests == [], "a cloud is asked for images with --images only"

    found = golden_on_clouds()
    assert {finding.name for finding in found} == {"cloud-of-the-nodes", "cloud-of-the-gateway"}
    assert all("of the cloud memory" in part for finding in found for part in finding.parts)
    assert cloud.made()["/v2/images"] == 4, "found is not removed"
    assert gc.remove(found) == []
    assert cloud.things["/v2/images"].keys() == {theirs, other}
    assert clouds.places() == []


def test_golden_images_that_are_used_again_since_they_were_found_stay(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    servers = dict(cloud.things["/servers"])
    cloud.things["/servers"].clear()
    (found,) = golden_on_clouds()
    assert found.name == "cloud-of-the-gateway", "the lab's record names the other"
    cloud.things["/servers"] |= servers
    assert gc.remove([found]) == []
    assert cloud.made()["/v2/images"] == 2
    cloud.things["/servers"].clear()
    with locked(lab.name, "a test"):
        assert golden_on_clouds() == [], "a command works on a lab there"
        assert gc.remove([found]) == []
    assert cloud.made()["/v2/images"] == 2


def test_a_cloud_that_does_not_answer_or_keeps_an_image_is_said_by_gc_images(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    assert down.down("mine")
    cloud.refused["DELETE /v2/images"] = (409, "image in use")
    left = gc.remove(golden_on_clouds())
    assert "image cloud-of-the-gateway of the cloud memory: image in use" in left
    cloud.refused = {"GET /v2/images": (503, "Service Unavailable")}
    (finding,) = golden_on_clouds()
    (said,) = finding.remove()
    assert said.startswith("golden images on the cloud memory: the cloud memory refused")
    assert clouds.places() == ["memory"]


def test_images_beyond_the_first_page_are_seen(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.page = 1
    up(lab)
    up(lab)
    assert cloud.made()["/v2/images"] == 2
    stand_on(lab)
    assert leftovers.sweep("mine") == []
    assert len(golden_on_clouds()) == 1, "the lab's record names the other"


def test_a_flavor_is_the_exact_one_else_made_else_the_smallest_that_is_enough(lab: Lab, cloud: MemoryCloud) -> None:
    for name, size in (("big", (4, 8192, 40)), ("bigger", (8, 8192, 40)), ("exact", (2, 2048, 10))):
        about = dict(zip(("vcpus", "ram", "disk"), size, strict=True))
        cloud.post("compute", "/flavors", {"flavor": {"name": name, **about}})
    names = {each["name"]: key for key, each in cloud.things["/flavors"].items()}
    assert flavors.flavor(cloud, lab, 2, 2048 * MIB, 10 * GIB) == names["exact"]
    made = flavors.flavor(cloud, lab, 2, 2000 * MIB, 10 * GIB)
    assert marks.mine(cloud.things["/flavors"][made], "mine")
    cloud.refused["POST /flavors"] = (403, "not for you")
    assert flavors.flavor(cloud, lab, 3, 4000 * MIB, 10 * GIB) == names["big"]
    with pytest.raises(LabError, match=r"no flavor with 16 virtual CPUs, .*, and this project may not make one"):
        flavors.flavor(cloud, lab, 16, 4000 * MIB, 10 * GIB)


def test_two_nodes_of_one_size_make_their_flavor_once(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start side by side: the second is refused a flavor that was not there a moment before."""
    other = flavors.flavor(cloud, lab, 3, 3000 * MIB, 3 * GIB)
    seen = iter([[], [], flavors._known(cloud)])
    monkeypatch.setattr(flavors, "_known", lambda _: next(seen))
    cloud.refused["POST /flavors"] = (409, "Flavor with name labctl.mine already exists.")
    assert flavors.flavor(cloud, lab, 3, 3000 * MIB, 3 * GIB) == other


# --- snapshots ---------------------------------------------------------------------------------------


def stand_on(lab: Lab, *below: str) -> None:
    driver = OpenStack("memory")
    driver.rest(lab, 0)
    stack, number = below or lab.stack, lab.new_layer()
    lab.layer(number).mkdir()
    driver.branch(lab, stack, number)
    lab.meta["stack"] = [number, *stack]
    up(lab)


def test_a_restored_lab_is_made_of_its_own_images_and_volume_snapshots(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    stand_on(lab)
    kept = {thing.name: thing.id for thing in leftovers.frozen(cloud, "mine")}
    assert set(kept) == {"mine.first.layer-1", "mine.second.layer-1", "mine.second.data.layer-1"}
    before = {s["name"]: s for s in cloud.things["/servers"].values()}

    stand_on(lab, "1")
    after = {s["name"]: s for s in cloud.things["/servers"].values()}
    assert after["mine.gateway"] == before["mine.gateway"]
    assert after["mine.first"]["imageRef"] == kept["mine.first.layer-1"]
    old, volume = cloud.things["/volumes"].values()
    assert volume["snapshot_id"] == kept["mine.second.data.layer-1"]
    assert marks.RETIRED in old["metadata"], "a cloud does not delete a volume that has snapshots"
    assert after["mine.second"]["user_data"] != before["mine.second"]["user_data"], "udev's names of its volumes"

    files.remove(lab.layer("1"))
    lab.meta["stack"] = [lab.stack[0]]
    stand_on(lab)
    assert not any("layer-1" in thing.name for thing in leftovers.frozen(cloud, "mine")), "of a layer that is gone"
    assert old["id"] not in cloud.things["/volumes"]
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


@pytest.fixture
def snapping(lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab that is up, whose snapshots are taken and restored as commands do it."""
    monkeypatch.setitem(drivers.LOADED, "openstack:memory", OpenStack("memory"))
    monkeypatch.setattr(OpenStack, "connect", refuse)  # machines are down when their console says so
    monkeypatch.setattr(snapshot, "gate", lambda lab: None)
    up(lab)
    return lab


def on_cloud(cloud: MemoryCloud) -> dict[str, int]:
    """How much of a lab's servers, disks and snapshots there is, without golden images."""
    made = cloud.made()
    images = sum(marks.LAYER in image for image in cloud.things["/v2/images"].values())
    return {"images": images, **{key: made.get(key, 0) for key in ("/servers", "/volumes", "/snapshots")}}


WHOLE = {"images": 0, "/servers": 3, "/volumes": 1, "/snapshots": 0}
KEPT = {**WHOLE, "images": 2, "/snapshots": 1}
BACK = {**KEPT, "/volumes": 2}


def stays(cloud: MemoryCloud) -> None:
    """No server is made of what is gone."""
    for server in cloud.things["/servers"].values():
        assert server["imageRef"] in cloud.things["/v2/images"]
    for volume in cloud.things["/volumes"].values():
        assert volume.get("snapshot_id") is None or volume["snapshot_id"] in cloud.things["/snapshots"]


def test_a_snapshot_of_a_node_with_disks_is_made_restored_and_deleted(snapping: Lab, cloud: MemoryCloud) -> None:
    assert on_cloud(cloud) == WHOLE
    snapshot.create(snapping, "ready")
    assert on_cloud(cloud) == KEPT
    assert all(server["status"] == "ACTIVE" for server in cloud.things["/servers"].values())
    (kept,) = cloud.things["/snapshots"].values()

    for _ in range(2):
        snapshot.restore(snapping, "ready")
        assert on_cloud(cloud) == BACK, "the volume that has the snapshot is kept for it, once"
        (own,) = (v for v in cloud.things["/volumes"].values() if v.get("snapshot_id"))
        assert own["snapshot_id"] == kept["id"]
        assert own["metadata"] == {marks.DISK: "data"}
        second = next(s for s in cloud.things["/servers"].values() if s["name"] == "mine.second")
        assert own["id"] in [each["uuid"] for each in second["block_device_mapping_v2"]]

    snapshot.create(snapping, "later")
    snapshot.delete(snapping, "later")
    assert on_cloud(cloud) == {**BACK, "images": 4, "/snapshots": 2}, "the lab stands on its layer"
    snapshot.restore(snapping, "ready")
    assert on_cloud(cloud)["images"] == 4, "its layer goes after the lab has left it"
    snapshot.delete(snapping, "ready")
    assert on_cloud(cloud)["images"] == 2, "the lab stands on that of the first"
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


@pytest.mark.parametrize("what", ["create", "restore", "delete"])
def test_a_snapshot_command_may_be_killed_at_any_request_and_leaves_nothing_behind(
    what: str, snapping: Lab, cloud: MemoryCloud
) -> None:
    lab = snapping
    if what != "create":
        snapshot.create(lab, "ready")
    if what == "delete":
        snapshot.create(lab, "later")
        snapshot.restore(lab, "ready")
    start, end = {
        "create": (WHOLE, KEPT), "restore": (BACK, BACK), "delete": (BACK, BACK),
    }[what]  # fmt: skip
    work = {
        "create": lambda: snapshot.create(Lab.load("mine"), "ready"),
        "restore": lambda: snapshot.restore(Lab.load("mine"), "ready"),
        "delete": lambda: snapshot.delete(Lab.load("mine"), "later"),
    }[what]
    number = 0
    for number in itertools.count(1, 2):
        ended = not killed(cloud, number, work)
        lab = Lab.load("mine")
        snapshot.sweep(lab)
        known = {each.name for each in snapshot.snapshots(lab)}
        if what == "create" and "ready" not in known:
            snapshot.wake(lab)
            snapshot.create(lab, "ready")
        elif what == "restore":
            snapshot.restore(lab, "ready")
        else:
            snapshot.wake(lab)
            lab.driver.tidy(lab)
        assert on_cloud(cloud) == end
        stays(cloud)
        if ended:
            break
        if what == "create":
            restart(lab, cloud)
            assert on_cloud(cloud) == start
        if what == "delete":
            snapshot.create(lab, "later")
            snapshot.restore(lab, "ready")
    assert number > (20 if what != "delete" else 3)
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


def restart(lab: Lab, cloud: MemoryCloud) -> None:
    """The lab as it was before any snapshot, on its golden image."""
    assert leftovers.sweep(lab.name) == []
    for layer in (lab.directory / "layers").iterdir():
        files.remove(layer)
    lab.meta |= {"stack": ["1"], "snapshots": {}}
    lab.layer("1").mkdir()
    lab.save()
    for node in lab.spec.nodes:
        files.remove(lab.node_directory(node))
    up(lab)


def test_layers_of_another_lab_are_refused(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    stand_on(lab)
    lab.meta["id"] = "0badcafe"
    with pytest.raises(LabError, match="servers of a cloud cannot be cloned"):
        OpenStack("memory").branch(lab, ("1",), "9")


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


def refuse(*_: object) -> None:
    raise LabError("no machine answers here")


# --- what it takes -----------------------------------------------------------------------------------


def test_what_a_lab_needs_is_counted(lab: Lab) -> None:
    wanted = quota.needed(lab)
    assert (wanted["servers"], wanted["GiB of volumes"], wanted["ports"]) == (3, 1, 4)
