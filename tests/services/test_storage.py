"""What cinder and swift do on their nodes, run here with stand-ins for what would touch a disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT, planned, specify, whole

from labctl.components import Component
from labctl.host import process
from labctl.operations.node import Command, Copy, Directory, Link, flatten
from labctl.services import cinder, glance, swift
from labctl.services.base import Context
from labctl.topology.model import VolumeBackend

KINDS = ("account", "container", "object")


@pytest.fixture
def six() -> Context:
    return Context.of(specify(ROOT / "topologies" / "zed-6node.yaml"))


def shims(place: Path, **scripts: str) -> dict[str, str]:
    """An environment whose programs of these names are stand-ins that write down how they were called."""
    place.mkdir(exist_ok=True)
    for name, body in scripts.items():
        path = place / name.replace("_", "-").replace("mkfs-", "mkfs.")
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >>"{place}/calls"\n{body}\n')
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}


def calls(place: Path) -> list[str]:
    return (place / "calls").read_text().splitlines() if (place / "calls").exists() else []


def rings(ctx: Context) -> list[Command]:
    return [o for o in swift._rings(ctx) if isinstance(o, Command)]


@pytest.mark.parametrize("topology", ["zed-2node", "train-2node", "ussuri-6node"])
def test_filters_stand_where_swifts_sample_wants_them(topology: str) -> None:
    filters = swift.pipeline(Context.of(specify(ROOT / "topologies" / f"{topology}.yaml"))).split()
    auth = filters.index("authtoken")
    assert filters[auth - 1] == "formpost"  # "just before your auth filter(s)"
    assert filters[auth + 1 : auth + 4] == ["s3api", "s3token", "keystoneauth"]  # the pipeline with keystone, s3api.py
    assert filters[auth + 4] == "staticweb"  # "just after your auth filter(s)"
    assert filters.index("tempurl") < min(filters.index(name) for name in ("authtoken", "slo", "dlo"))
    assert filters.index("versioned_writes") > filters.index("slo")


def test_swift_keeps_versions_of_objects(six: Context) -> None:
    (section,) = (s for s in swift.proxy_conf(six).content.split("\n[") if s.startswith("filter:versioned_writes]"))
    assert "allow_versioned_writes = true" in section


@pytest.mark.parametrize(
    ("topology", "base", "path"),
    [
        ("zed-2node", "debian12", "/etc/glance/metadefs/"),
        ("train-2node", "centos7", "/etc/glance/metadefs/"),
        ("train-2node", "debian12", "/opt/openstack/train/etc/glance/metadefs/"),
    ],
)
def test_metadata_definitions_are_where_glance_was_installed_from(topology: str, base: str, path: str) -> None:
    ctx = Context.of(specify(ROOT / "topologies" / f"{topology}.yaml", base=base))
    ((_, chain),) = glance.Glance().populate(ctx)
    made, loaded = chain.each
    assert made.words == "db_sync"
    assert loaded.words == f"db_load_metadefs {path}"
    assert chain.before == f"ls {path}*.json >/dev/null"


def test_each_storage_node_is_a_zone_of_every_ring(six: Context) -> None:
    made = rings(six)
    assert [r.title for r in made] == [f"{kind} ring" for kind in KINDS]
    for kind, ring in zip(KINDS, made, strict=True):
        builder = f"swift-ring-builder /etc/swift/{kind}.builder"
        port = swift.PORTS[kind]
        assert f"{builder} create 10 3 1" in ring.run
        for zone, host in ((1, 50), (2, 51), (3, 52)):
            add = f"{builder} add --region 1 --zone {zone} --ip 192.168.10.{host} --port {port} --device device"
            assert add in ring.run
        assert ring.run.index("rebalance") > ring.run.rindex(" add ")


def test_one_storage_node_holds_one_replica() -> None:
    two = Context.of(specify(ROOT / "topologies" / "zed-2node.yaml"))
    assert swift.replicas(two) == 1
    assert all(" create 10 1 1 " in r.run for r in rings(two))


def test_a_ring_is_built_once_and_again_after_a_build_that_broke_off(six: Context, tmp_path: Path) -> None:
    ring = rings(six)[0]
    etc = tmp_path / "swift"
    etc.mkdir()
    ring = replace(
        ring, run=ring.run.replace("/etc/swift", str(etc)), unless=ring.unless.replace("/etc/swift", str(etc))
    )
    build = f'[ ! -e "{tmp_path}/broken" ] || [ "$2" != rebalance ] || exit 1\n'
    build += f'[ "$2" != rebalance ] || echo ring >"{etc}/account.ring.gz"'
    env = shims(tmp_path / "bin", swift_ring_builder=build, chgrp="exit 0")

    def run() -> int:
        return process.run(["sh", "-c", ring.shell()], env=env, check=False).returncode

    (tmp_path / "broken").touch()
    assert run() == 1
    (tmp_path / "broken").unlink()
    assert run() == 10
    built = len(calls(tmp_path / "bin"))
    assert run() == 0
    assert len(calls(tmp_path / "bin")) == built


def test_rings_go_from_the_proxy_to_every_storage_node(six: Context) -> None:
    (copy,) = [c for stage in planned(six.lab).stages for c in stage.copies]
    assert copy == Copy(
        tuple(f"/etc/swift/{kind}.ring.gz" for kind in KINDS),
        "network",
        ("storage1", "storage2", "storage3"),
        copy.origin,
    )


def test_a_disk_that_has_a_file_system_is_never_formatted_again(six: Context, tmp_path: Path) -> None:
    node = six.lab.running(Component.SWIFT_STORAGE)[0]
    (disk,) = swift.disks(node)
    make = swift._disk(six, disk)[0]
    env = shims(tmp_path / "bin", blkid=f'cat "{tmp_path}/type" 2>/dev/null', mkfs_xfs=f'echo xfs >"{tmp_path}/type"')
    states = [process.run(["sh", "-c", make.shell()], env=env, check=False).returncode for _ in range(2)]
    assert states == [10, 0]
    assert [c for c in calls(tmp_path / "bin") if c.startswith("mkfs")] == [f"mkfs.xfs -q -f {disk.device}"]


def test_swift_leaves_cinders_disk_alone(six: Context) -> None:
    node = six.lab.nodes["storage1"]
    other = six.lab.nodes["compute"].disks
    assert [d.name for d in swift.disks(node.model_copy(update={"disks": (*node.disks, *other)}))] == ["device"]


def test_the_nfs_helper_binds_the_directory_that_the_share_names(tmp_path: Path) -> None:
    env = shims(tmp_path / "bin", mount="exit 0")
    helper = tmp_path / "mount.nfs"
    helper.write_text(cinder.MOUNT_NFS)
    words = ["sh", helper, "compute:/var/lib/labctl/shared/cinder", "/var/lib/nova/mnt/x", "-o", "rw"]
    process.run(words, env=env)
    assert calls(tmp_path / "bin") == ["mount --bind /var/lib/labctl/shared/cinder /var/lib/nova/mnt/x"]


def test_the_nfs_helper_without_a_mount_point_says_how_it_is_used(tmp_path: Path) -> None:
    helper = tmp_path / "mount.nfs"
    helper.write_text(cinder.MOUNT_NFS)
    done = process.run(["sh", helper, "compute:/x"], check=False)
    assert done.returncode == 1
    assert "usage: mount.nfs HOST:PATH DIRECTORY" in done.stderr


@pytest.mark.parametrize(("base", "shared"), [("debian13", True), ("debian12", True), ("centos7", False)])
def test_targets_that_a_project_saves_are_restored_by_the_operating_system(base: str, shared: bool) -> None:
    """rtslib-fb from PyPI does not work without /etc/target, and Debian's unit would restore nothing from there."""
    topology = {"debian13": "gazpacho-2node"}.get(base, "train-2node")
    spec = whole(ROOT / "topologies" / f"{topology}.yaml", base)
    for backend in VolumeBackend.LVM, VolumeBackend.NFS:
        plan = planned(spec.model_copy(update={"volume_backend": backend}))
        steps = [o for stage in plan.stages for o in flatten(tuple(stage.nodes.get("compute", ())))]
        links = [o.target for o in steps if isinstance(o, Link) and o.path == "/etc/target"]
        assert bool(links) == (shared and backend is VolumeBackend.LVM)
        made = [o.path for o in steps if isinstance(o, Directory)]
        assert set(links) <= set(made)
