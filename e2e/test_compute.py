"""Nova: a guest boots, gets its metadata, survives reboots, and is cleaned up when deleted."""

from __future__ import annotations

import json

import pytest
from openstack.exceptions import ForbiddenException

from labctl.records import cloud
from labctl.testing import resources
from labctl.testing.waits import wait_for

METADATA = "http://169.254.169.254"
LOGIN_DEADLINE = 180
REBOOT_DEADLINE = 240  # nova waits 60 to 120 s for a guest that ignores the power button


def allocations(admin, server):
    """Placement's allocations for a server."""
    return cloud.body(admin.placement.get(f"/allocations/{server.id}"))["allocations"]


def fetch(guest, path):
    """Read from the metadata service as a guest does."""
    return guest.output(f"wget -qO- {METADATA}{path} || curl -sf {METADATA}{path}", timeout=60)


def boot_id(guest):
    return guest.output("cat /proc/sys/kernel/random/boot_id")


@pytest.mark.smoke
def test_guest_boots_to_a_login_prompt_and_learns_who_it_is(project, keypair, boot, console, ssh):
    user_data = "#!/bin/sh\necho user-data of the test\n"
    server = boot("who", user_data=user_data)
    wait_for(
        "a login prompt on the console",
        lambda: console(server),
        done=lambda log: "login:" in log,
        failed=lambda log: "kernel panic" if "Kernel panic" in log else None,
        deadline=LOGIN_DEADLINE,
        interval=3,
    )
    guest = ssh(server)
    described = json.loads(fetch(guest, "/openstack/latest/meta_data.json"))
    assert described["uuid"] == server.id
    assert described["name"] == server.name
    assert fetch(guest, "/latest/meta-data/hostname").split(".")[0] == server.name
    assert fetch(guest, "/latest/meta-data/instance-id").startswith("i-")
    assert fetch(guest, "/latest/meta-data/local-ipv4") == resources.fixed_address(project, server)
    assert fetch(guest, "/latest/meta-data/public-keys/0/openssh-key").split()[1] == keypair.public.split()[1]
    assert fetch(guest, "/latest/user-data").strip() == user_data.strip()
    assert guest.output("sudo id -u") == "0"


def test_files_survive_soft_reboot_hard_reboot_and_stop(project, boot, ssh, name):
    compute = project.connection.compute
    server = boot("reboot")
    guest = ssh(server)
    written = name("kept")
    guest.run(f"echo {written} > kept && sync")

    for kind in ("SOFT", "HARD"):
        before = boot_id(guest)
        compute.reboot_server(server.id, kind)
        resources.wait_server(project.connection, server, deadline=REBOOT_DEADLINE)
        guest.connect()
        assert boot_id(guest) != before, f"{kind} reboot did not restart the guest"
        assert guest.output("cat kept") == written

    before = boot_id(guest)
    guest.run("sync")
    compute.stop_server(server.id)
    resources.wait_server(project.connection, server, "SHUTOFF", deadline=REBOOT_DEADLINE)
    compute.start_server(server.id)
    resources.wait_server(project.connection, server)
    guest.connect()
    assert boot_id(guest) != before
    assert guest.output("cat kept") == written


@pytest.mark.needs("placement")
def test_deleted_server_leaves_no_allocation_and_no_port(project, admin, boot):
    server = boot("brief")
    flavor = project.connection.compute.find_flavor(project.lab.flavors[0])
    (held,) = allocations(admin, server).values()
    assert held["resources"]["VCPU"] == flavor.vcpus
    assert held["resources"]["MEMORY_MB"] == flavor.ram
    assert resources.port_of(project, server)

    resources.delete_server(project.connection, server)

    assert allocations(admin, server) == {}
    assert list(project.connection.network.ports(device_id=server.id)) == []


def test_server_above_the_project_s_quota_is_refused(project, admin, name, network, keypair, security_group):
    flavor = admin.compute.create_flavor(name=name("huge"), ram=64, vcpus=1000, disk=1)
    try:
        with pytest.raises(ForbiddenException, match="cores"):
            resources.create_server(
                project,
                name("huge"),
                network=network.id,
                key_name=keypair.name,
                group=security_group.name,
                flavor=flavor.name,
            )
    finally:
        admin.compute.delete_flavor(flavor.id)
    assert list(project.connection.compute.servers()) == []
