"""What doctor says of a cloud for the driver openstack, and of this host's end of the tunnels."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers.memory_cloud import MemoryCloud

from labctl.doctor import cloud as clouds
from labctl.doctor.host import Finding, State
from labctl.drivers.openstack import configured
from labctl.drivers.openstack.cloud import Cloud
from labctl.errors import LabError

CLOUDS = """clouds:
  nearby: {auth: {auth_url: "http://127.0.0.1:9/v3", username: a, password: b, project_name: c}}
  other: {auth: {auth_url: "http://127.0.0.1:9/v3", username: a, password: b, project_name: c}}
"""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> MemoryCloud:
    made = MemoryCloud()
    monkeypatch.setattr(clouds, "opened", lambda name: made)
    return made


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clouds.yaml"
    path.write_text(CLOUDS)
    monkeypatch.setenv(configured.OTHER_FILE, str(path))
    return path


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.check: f for f in findings}


def test_a_cloud_that_can_run_labs_says_with_what(cloud: MemoryCloud) -> None:
    found = by_name(clouds.examine("memory"))
    assert found["cloud memory"].found == "answers, project p, 3 extensions of its network"
    assert found["cloud services"].found == "compute, network, image, block-storage"
    assert found["external network"].found == "public"
    assert found["cloud quotas"].found == (
        "left: 10 servers, 20 virtual CPUs, 51200 MiB of memory, 10 volumes, 1000 GiB of volumes"
    )
    assert {f.check for f in found.values() if f.state is State.NOTE} == {"nested KVM there"}
    assert cloud.made() == {}


def test_what_a_cloud_lacks_is_said_with_the_next_command(cloud: MemoryCloud) -> None:
    cloud.services -= {"image", "block-storage"}
    cloud.limits["totalInstancesUsed"] = 9
    del cloud.things["/v2.0/networks"]["outer"]
    found = by_name(clouds.examine("memory"))
    assert found["cloud services"].found == "it has no image"
    assert found["cloud services"].hint == "openstack --os-cloud memory catalog list"
    assert "no external network" in found["external network"].found
    assert found["cloud quotas"].found.endswith("the smallest lab needs 2 servers")
    cloud.services.add("image")
    lacks_volumes = by_name(clouds.examine("memory"))["cloud services"]
    assert (lacks_volumes.state, "no additional disks" in lacks_volumes.found) == (State.NOTE, True)


def test_a_cloud_that_does_not_answer_is_one_problem_and_asked_no_more(cloud: MemoryCloud) -> None:
    cloud.refused["GET /v2.0/extensions"] = (503, "Service Unavailable")
    found = by_name(clouds.examine("memory"))
    assert "Service Unavailable" in found["cloud memory"].found
    assert set(found) == {"cloud memory", "tap for tunnels", "ssh for tunnels"}
    assert len(cloud.requests) == 1


def test_without_a_name_the_configured_clouds_are_named_and_none_is_asked(
    cloud: MemoryCloud, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = clouds.examine()
    assert (found.state, found.found) == (State.OK, f"nearby, other in {written}; not asked")
    assert found.hint == "labctl doctor --cloud nearby"
    written.write_text("clouds: {}")
    assert clouds.examine() == []
    written.write_text(CLOUDS)
    monkeypatch.setenv("OS_CLOUD_NAME", "nearby")  # openstacksdk refuses two clouds of one name
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:9/v3")
    (twice,) = clouds.examine()
    assert twice.state is State.NOTE
    assert twice.found.startswith("clouds.yaml: ")
    assert cloud.requests == []


def test_a_cloud_that_is_not_configured_is_said_with_the_file_and_its_names(written: Path) -> None:
    with pytest.raises(LabError) as failed:
        configured.entry("othr")
    assert failed.value.message == f"there is no cloud named 'othr' in {written}; clouds there: nearby, other"
    assert failed.value.hint == "labctl doctor --cloud other"
    assert configured.entry("nearby").name == "nearby"


def test_a_cloud_says_which_image_format_it_prefers(written: Path) -> None:
    written.write_text(CLOUDS.replace("other: {", "other: {image_format: raw, "))
    assert (Cloud("nearby").image_format, Cloud("other").image_format) == ("qcow2", "raw")


def test_where_there_is_no_file_the_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openstack.config import loader

    monkeypatch.setattr(loader, "CONFIG_FILES", [])
    monkeypatch.setenv(configured.OTHER_FILE, str(tmp_path / "none.yaml"))
    with pytest.raises(LabError) as failed:
        configured.entry("nearby")
    said = f"there is no cloud named 'nearby': no clouds.yaml was found; looked in {tmp_path}/none.yaml"
    assert failed.value.message.startswith(said)
    assert "/etc/openstack" in failed.value.message
    assert failed.value.hint.endswith("clouds.yaml, which its dashboard offers; labctl doctor --cloud nearby")
    (tmp_path / "none.yaml").write_text("clouds: [")
    with pytest.raises(LabError, match=r"named 'nearby': .*/none\.yaml is not YAML"):
        configured.entry("nearby")


def test_the_tunnels_need_a_tap_device_and_openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "TUN", tmp_path / "tun")
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'Dropbear v2022.83' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tap, ssh = clouds.tunnels()
    assert (tap.state, tap.hint) == (State.PROBLEM, "modprobe tun")
    assert (ssh.state, ssh.found) == (State.PROBLEM, "Dropbear v2022.83; only OpenSSH has tunnels of layer 2")
    program.write_text("#!/bin/sh\necho 'OpenSSH_9.2p1 Debian-2, OpenSSL 3.0' >&2\n")
    assert clouds.tunnels()[1] == Finding("ssh for tunnels", State.OK, "OpenSSH_9.2p1")
