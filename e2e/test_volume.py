"""Cinder: data moves between guests and through snapshots, boot volumes, and a clean back end."""

from __future__ import annotations

import pytest
from openstack.exceptions import NotFoundException

from labctl.records.lab import Lab
from labctl.services.cinder import has_snapshots
from labctl.testing import resources
from labctl.testing.waits import wait_for

pytestmark = pytest.mark.needs("cinder-volume")

GIB = 1024**3


def make_volume(project, name, **attrs):
    """Create a volume and wait until it is available."""
    volume = project.connection.block_storage.create_volume(name=name, **({"size": 1} | attrs))
    return resources.wait_volume(project.connection, volume)


def disks(guest):
    return set(guest.output("ls /sys/block").split())


def attached(project, guest, server, volume):
    """Attach a volume and return the device that appears in the guest."""
    before = disks(guest)
    resources.attach(project.connection, server, volume)
    (device,) = wait_for(
        f"a new disk in {server.name}",
        lambda: disks(guest) - before,
        done=lambda new: len(new) == 1,
        deadline=60,
    )
    return f"/dev/{device}"


def detached(project, guest, server, volume, device):
    """Detach a volume and wait until its device is gone from the guest."""
    resources.detach(project.connection, server, volume)
    wait_for(
        f"{device} to be gone from {server.name}",
        lambda: disks(guest),
        done=lambda seen: device.removeprefix("/dev/") not in seen,
        deadline=60,
    )


def size(guest, device):
    """The size of a disk in bytes, as the guest's kernel sees it."""
    return int(guest.output(f"cat /sys/block/{device.removeprefix('/dev/')}/size")) * 512


def on_back_end(lab, admin, volume):
    """The volume's host, and the logical volumes and files that it has for the volume."""
    host = admin.block_storage.get_volume(volume.id).host.partition("@")[0]
    return host, listing(lab, host, volume)


def listing(lab, host, volume):
    command = (
        "{ lvs --noheadings -o lv_name 2>/dev/null; find /var/lib/cinder -name '*volume-*' 2>/dev/null; } "
        f"| grep {volume.id} || true"
    )
    with Lab.load(lab.lab).connect(host) as node:
        return node.run(command, timeout=60).stdout.split()


@pytest.mark.smoke
def test_bytes_travel_to_another_guest_and_through_a_snapshot(lab, project, boot, ssh, name):
    storage = project.connection.block_storage
    servers = [boot("writer", wait=False), boot("reader", wait=False)]
    volume = make_volume(project, name("volume"))
    writer_server, reader_server = resources.wait_servers(project.connection, servers)

    writer = ssh(writer_server)
    device = attached(project, writer, writer_server, volume)
    assert size(writer, device) == GIB
    written = writer.write_disk(device)
    detached(project, writer, writer_server, volume, device)

    reader = ssh(reader_server)
    device = attached(project, reader, reader_server, volume)
    assert reader.read_disk(device) == written
    detached(project, reader, reader_server, volume, device)

    if not has_snapshots(Lab.load(lab.lab).context):
        pytest.skip("the bytes came to another guest; volumes on NFS have no snapshots in this release")
    snapshot = storage.create_snapshot(name=name("snapshot"), volume_id=volume.id)
    resources.wait_snapshot(project.connection, snapshot)
    restored = make_volume(project, name("restored"), snapshot_id=snapshot.id)
    storage.extend_volume(restored.id, 2)
    restored = resources.wait_volume(project.connection, restored)
    assert restored.size == 2

    device = attached(project, reader, reader_server, restored)
    assert size(reader, device) == 2 * GIB
    assert reader.read_disk(device) == written
    detached(project, reader, reader_server, restored, device)


def test_guest_boots_from_a_volume_that_outlives_it(project, boot, ssh, name):
    volume = make_volume(project, name("root"), image_id=resources.image_id(project))
    assert volume.is_bootable
    server = boot("rooted", boot_volume=volume.id)
    ssh(server).run("echo kept > kept && sync")
    resources.delete_server(project.connection, server)
    resources.wait_volume(project.connection, volume)

    again = boot("again", boot_volume=volume.id)
    assert ssh(again).output("cat kept") == "kept"


def test_deleted_volume_leaves_nothing_on_the_back_end(lab, admin, project, name):
    storage = project.connection.block_storage
    volume = make_volume(project, name("brief"))
    host, held = on_back_end(lab, admin, volume)
    assert held, f"{host} has no data of volume {volume.id}"

    storage.delete_volume(volume.id, ignore_missing=False)
    wait_for(
        "the volume to be gone",
        lambda: [(seen.id, seen.status) for seen in storage.volumes()],
        done=lambda left: not left,
        failed=lambda left: str(left) if any(status.startswith("error") for _, status in left) else None,
        deadline=resources.VOLUME_DEADLINE,
    )
    with pytest.raises(NotFoundException):
        storage.get_volume(volume.id)
    assert listing(lab, host, volume) == []
