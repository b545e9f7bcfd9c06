"""What system containers do besides the contract: cards and names, disks and shared files, an unrecorded start."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from subject import NODE, OTHER, subject_of
from support import SMALL

from labctl.host import cgroup, network, process, sparse
from labctl.topology.spec import LabSpec

pytestmark = pytest.mark.system


def test_containers_see_their_names_cards_and_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subject_of("nspawn", SMALL, tmp_path, monkeypatch) as subject:
        lab = subject.lab
        for node in lab.spec.nodes:
            subject.begin(node)
        card = lab.spec.nodes[NODE].interfaces[0]
        assert subject.ask("hostname") == f"{NODE}\n"
        assert subject.ask("cat /sys/class/net/eth0/address") == f"{card.mac}\n"
        assert f"{card.address}/24" in subject.ask("ip -4 -o address show dev eth0")
        subject.ask("ping -c 1 -W 2 10.0.0.12")
        subject.ask("ping -c 1 -W 2 10.0.0.1")
        assert subject.ask("find /etc/ssh -name 'ssh_host_*_key' -perm 600 | wc -l") == "1\n"
        assert subject.ask("systemctl is-enabled keystone || true").strip() == "disabled"
        assert "login1" not in subject.ask("su nobody -s /bin/true; journalctl --boot --no-pager")
        assert subject.driver.cpu_seconds(lab) > 0
    assert network.namespaces(lab.name) == []


def test_disks_and_what_nodes_share_come_back_with_their_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = SMALL.replace("    memory: 512 MiB\n", "    memory: 512 MiB\n    disks: {data: 1 GiB}\n", 1)
    disk, shared = "/dev/disk/by-id/virtio-data", "/var/lib/labctl/shared/file"
    wrong = "an old mount, as a killed restore leaves it"
    with subject_of("nspawn", topology, tmp_path, monkeypatch) as subject:
        driver, lab = subject.driver, subject.lab
        for node in lab.spec.nodes:
            subject.begin(node)
        subject.ask(f"echo one >{disk}; echo one >{shared}; sync")
        subject.stand_on()
        assert subject.ask(f"head -c 4 {disk}; cat {shared}") == "one\none\n"
        subject.ask(f"echo two >{disk}; echo two >{shared}; sync")
        assert subject.ask(f"cat {shared}", OTHER) == "two\n"
        subject.stand_on("1")
        assert subject.ask(f"head -c 4 {disk}; cat {shared}") == "one\none\n"
        assert sparse.used(lab.layer("2") / NODE / "disks", lab.layer("2") / "shared") < 2**20

        subject.ask(f"echo {wrong} >/root/file")
        driver.stop(lab, NODE, 30)
        lab.layer("4").mkdir()
        driver.branch(lab, ("1",), "4")
        lab.meta["stack"] = ["4", "1"]
        subject.begin()
        assert subject.ask("test ! -e /root/file && echo right") == "right\n"


def test_a_machine_whose_start_was_not_recorded_is_replaced_by_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A labctl that is killed between starting a machine and writing its number down."""
    with subject_of("nspawn", SMALL, tmp_path, monkeypatch) as subject:
        driver, lab = subject.driver, subject.lab
        subject.begin()
        before = subject.ask("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1")
        (lab.node_directory(NODE) / "machine.json").unlink()
        assert not driver.machine(lab, NODE).running
        time.sleep(1.1)

        subject.begin()

        assert driver.machine(lab, NODE).running
        assert subject.ask("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1") != before


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_a_machine_whose_disk_became_read_only_gets_it_back(
    runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel mounts it when the host's disk is full."""
    with subject_of("nspawn", SMALL, tmp_path, monkeypatch) as subject:
        driver, lab = subject.driver, subject.lab
        subject.begin()
        subject.ask("echo kept >/root/file; sync")
        driver.rest(lab, 30)
        driver.create(lab, NODE)
        process.run(["mount", "-o", "remount,ro", lab.node_directory(NODE) / "root"])
        if runs:
            driver.start(lab, NODE)
            assert "read-only" in driver.lost(lab, NODE)
            driver.stop(lab, NODE, 30)

        subject.begin()

        assert subject.ask("echo more >>/root/file; cat /root/file") == "kept\nmore\n"
        assert driver.lost(lab, NODE) == ""


def test_a_machine_ends_that_was_started_this_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes may not have joined their control group yet."""
    with subject_of("nspawn", SMALL, tmp_path, monkeypatch) as subject:
        driver, lab = subject.driver, subject.lab
        for end in [lambda: driver.stop(lab, NODE, 0), lambda: driver.destroy(lab, NODE)] * 5:
            driver.create(lab, NODE)
            driver.start(lab, NODE)
            assert end() in (False, [])
            assert not driver.machine(lab, NODE).running
            assert cgroup.processes(lab.name, NODE) == []


def test_a_start_ends_once_the_machine_is_in_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked a moment too early, it looks like a machine whose network was replaced, which `up` would restart."""
    entered, asked = network.entered, []

    def late(spec: LabSpec, node: str, pid: int) -> bool:
        asked.append(pid)
        return len(asked) > 5 and entered(spec, node, pid)

    with subject_of("nspawn", SMALL, tmp_path, monkeypatch) as subject:
        driver, lab = subject.driver, subject.lab
        driver.create_network(lab)
        driver.create(lab, NODE)
        with monkeypatch.context() as patch:
            patch.setattr(network, "entered", late)
            driver.start(lab, NODE)
        assert len(asked) > 5
        assert driver.lost(lab, NODE) == ""
