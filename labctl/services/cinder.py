"""cinder: facts 6.7 and the cinder install guide; volumes on LVM over iSCSI, or on a shared directory."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Database, Directory, File, Link, Operation, quote
from labctl.operations.openstack import ApiOperation, CatalogAnswers, CatalogEntry, ServicesUp
from labctl.operations.populate import Populate
from labctl.secret import mark
from labctl.services.base import (
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    fills,
    http_ready,
    messaging,
    notifications,
    password_auth,
    privileged,
    service_account,
    stretch,
    tables,
)
from labctl.services.upgrading import migration
from labctl.services.wsgi import processes
from labctl.topology.model import VolumeBackend
from labctl.topology.spec import NodeSpec

GUIDE = "guide: cinder install, controller node; facts 6.7"
STORAGE = "guide: cinder install, storage node; facts 6.7"
NFS = "cinder admin guide: NFS driver; docs/platform.md: containers have no device mapper"
#: The lab's shared directory as cinder's NFS driver names it: HOST:PATH.
SHARE_PATH = "/var/lib/labctl/shared/cinder"
VOLUME_GROUP = "cinder-volumes"
#: Sections of a volume node's privileged helpers (cinder/privsep, os-brick).
HELPERS = ("cinder_sys_admin", "privsep_osbrick")

#: In a container the "NFS server" is a directory bind-mounted into every node: mounting it is one more bind mount.
#: os-brick and nova call `mount -t nfs HOST:PATH POINT -o …`, which runs this helper.
MOUNT_NFS = """#!/bin/sh
# Made by labctl: mount.nfs for a directory that all nodes of the lab share (docs/platform.md).
[ $# -ge 2 ] || { echo "usage: mount.nfs HOST:PATH DIRECTORY [-o OPTIONS]" >&2; exit 1; }
exec mount --bind "${1#*:}" "$2"
"""


def _suffix(version: int) -> str:
    """The first API has none: its service type is "volume" (facts 5.2)."""
    return f"v{version}" if version > 1 else ""


def shares_nfs(ctx: Context) -> bool:
    """True when volumes are files in the lab's shared directory."""
    return ctx.lab.has(Component.CINDER_VOLUME) and ctx.lab.volume_backend is VolumeBackend.NFS


def has_snapshots(ctx: Context) -> bool:
    """True when a volume can have a snapshot."""
    return not shares_nfs(ctx) or ctx.release.cinder_nfs_snapshots


def nfs_helper() -> tuple[Operation, ...]:
    """What a node needs to mount the lab's share, as cinder's and nova's nodes do."""
    return (File("/usr/sbin/mount.nfs", MOUNT_NFS, mode="0755", source=NFS), Directory(SHARE_PATH, mode="0777"))


def configuration(ctx: Context, node: NodeSpec) -> File:
    """cinder.conf of a node."""
    conf = Ini("/etc/cinder/cinder.conf", group="cinder")
    conf.set("DEFAULT", GUIDE, {"my_ip": str(ctx.lab.address(node)), "auth_strategy": "keystone"})
    conf.set("DEFAULT", "cinder.conf: the packages set it", {"state_path": "/var/lib/cinder"})
    messaging(ctx, conf)
    notifications(ctx, conf, "cinder")
    # each check of the volume group starts rootwrap three times, which keeps an emulated node busy for the minute
    limits = {"report_interval": 10, "service_down_time": 60, "periodic_interval": 60}
    stretch(ctx, conf, "DEFAULT", limits, "cinder")
    conf.set("database", GUIDE, {"connection": ctx.database_url("cinder", "cinder")})
    authtoken(ctx, conf, "cinder")
    conf.set("oslo_concurrency", GUIDE, {"lock_path": "/var/lib/cinder/tmp"})
    conf.set("DEFAULT", STORAGE, {"glance_api_servers": f"http://{ctx.host(Component.GLANCE)}:9292"})
    conf.set("DEFAULT", "topology: options.workers", {"osapi_volume_workers": ctx.lab.workers})
    if ctx.release.cinder_nova_account:
        source = "cinder configuration: snapshots and growth of attached volumes ask nova"
        conf.set("nova", source, password_auth(ctx, "nova"))
    if ctx.release.service_token:
        token = password_auth(ctx, "cinder", region=False)
        conf.set("service_user", "bug 2004555; facts 6.4", {"send_service_user_token": True, **token})
    if not node.has(Component.CINDER_VOLUME):
        return conf.file()
    privileged(ctx, conf, *HELPERS)
    backend = ctx.lab.volume_backend.value
    conf.set("DEFAULT", STORAGE, {"enabled_backends": backend})
    if ctx.lab.volume_backend is VolumeBackend.LVM:
        prefix = ctx.release.cinder_target_prefix
        conf.set(
            "lvm",
            STORAGE,
            {
                "volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver",
                "volume_group": VOLUME_GROUP,
                f"{prefix}protocol": "iscsi",
                f"{prefix}helper": "lioadm",
                f"{prefix}ip_address": str(ctx.lab.address(node)),
                "volume_backend_name": "lvm",
            },
        )
        return conf.file()
    conf.set(
        "nfs",
        NFS,
        {
            "volume_driver": "cinder.volume.drivers.nfs.NfsDriver",
            "nfs_shares_config": "/etc/cinder/nfs_shares",
            "nfs_mount_point_base": "/var/lib/cinder/mnt",
            **({"nfs_snapshot_support": True} if ctx.release.cinder_nfs_snapshots else {}),
            "nas_secure_file_operations": False,
            "nas_secure_file_permissions": False,
            "volume_backend_name": "nfs",
        },
    )
    return conf.file()


def _volume_group(node: NodeSpec) -> Command:
    device = next(d.device for d in node.disks if d.name == "cinder")
    return Command(
        f"volume group {VOLUME_GROUP}",
        f"pvcreate -y {device} && vgcreate {VOLUME_GROUP} {device}",
        unless=f"vgs --noheadings -o vg_name | grep -qw {VOLUME_GROUP}",
        source=STORAGE,
    )


def _targets(ctx: Context) -> tuple[Operation, ...]:
    """One directory of saved iSCSI targets for the project's rtslib-fb and the operating system's.

    The one from PyPI keeps them in /etc/target, and version 2.2.3 does not work without that directory ("Cannot set
    dbroot", rtslib/root.py); Debian's restores them after a boot from another place.
    """
    place = ctx.base.paths.get("targets")
    return (Directory(place), Link("/etc/target", place)) if place else ()


def lvm_filter(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    """Restrict a node's LVM to cinder's own disk, so it does not scan volumes and guests (facts 6.7, B49).

    Volumes appear on nodes that have them, and on those that attach them: for a server, or to write an image to one.
    Nodes' systems are not on LVM.
    """
    exists = ctx.lab.has(Component.CINDER_VOLUME) and ctx.lab.volume_backend is VolumeBackend.LVM
    if not exists or not node.has(Component.CINDER_VOLUME, Component.NOVA_COMPUTE):
        return ()
    devices = [d.device for d in node.disks if d.name == "cinder" and node.has(Component.CINDER_VOLUME)]
    patterns = ", ".join(f'"{p}"' for p in (*(f"a|^{d}$|" for d in devices), "r|.*|"))
    line = f"\tfilter = [ {patterns} ]"
    awk = "/^[ \t]*filter[ \t]*=/ { next } { print } /^devices[ \t]*{/ { print line }"
    path = "/etc/lvm/lvm.conf"
    present = "" if node.has(Component.CINDER_VOLUME) else f"[ ! -e {path} ] || "
    return (
        Command(
            "LVM sees no disk of a guest",
            f"awk -v line={quote(line)} {quote(awk)} {path} >{path}.labctl-new && "
            f"cat {path}.labctl-new >{path} && rm {path}.labctl-new",
            unless=present + f"grep -qxF {quote(line)} {path}",
            source=STORAGE,
        ),
    )


class Cinder(Chapter):
    name = "cinder"
    components = (Component.CINDER_CONTROLLER, Component.CINDER_VOLUME)
    words = {
        "en": ("Volumes: cinder", "Block devices for servers."),
        "ko": ("볼륨: cinder", "서버에 연결하는 블록 장치를 제공합니다."),
    }
    ports = {Component.CINDER_CONTROLLER: ("8776/tcp",), Component.CINDER_VOLUME: ("3260/tcp",)}
    logs = ("cinder",)
    tempest = True
    status_on = Component.CINDER_CONTROLLER

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("cinder", "cinder", mark("CINDER_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        host, project = ctx.host(Component.CINDER_CONTROLLER), ctx.release.endpoint_project
        entries = [
            CatalogEntry(
                f"cinder{_suffix(version)}",
                f"volume{_suffix(version)}",
                "OpenStack Block Storage",
                f"http://{host}:8776/v{version}/%({project})s",
                ctx.lab.region,
            )
            for version in ctx.release.cinder_api_versions
        ]
        return (*service_account(ctx, "cinder"), *entries)

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(*self.components):
            return lvm_filter(ctx, node)
        made: list[Operation] = [
            configuration(ctx, node),
            Directory("/var/lib/cinder/tmp", "cinder", "cinder", "0755"),
        ]
        if node.has(Component.CINDER_CONTROLLER):
            made += processes(ctx, "cinder-api")
        made += lvm_filter(ctx, node)
        if node.has(Component.CINDER_VOLUME):
            if ctx.lab.volume_backend is VolumeBackend.NFS:
                share = f"{node.name}:{SHARE_PATH}\n"
                made += nfs_helper()
                made.append(File("/etc/cinder/nfs_shares", share, group="cinder", mode="0640", source=NFS))
            else:
                made += (_volume_group(node), *_targets(ctx))
        return tuple(made)

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        made = tables(ctx, "cinder", "cinder-manage", fills("cinder db sync", "db sync", "cinder"))
        return ((ctx.host(Component.CINDER_CONTROLLER), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        daemons: list[Daemon] = []
        if node.has(Component.CINDER_CONTROLLER):
            daemons += [
                Daemon("cinder-api", (http_ready("cinder", "http://127.0.0.1:8776/"),)),
                Daemon("cinder-scheduler"),
            ]
        if node.has(Component.CINDER_VOLUME):
            if ctx.lab.volume_backend is VolumeBackend.LVM:
                daemons.append(Daemon("iscsi-target", stage="compute"))
            daemons.append(Daemon("cinder-volume", order=2, stage="compute"))
        return tuple(daemons)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        backend = ctx.lab.volume_backend.value
        wanted = [("cinder-scheduler", ctx.host(Component.CINDER_CONTROLLER))]
        wanted += [("cinder-volume", f"{n.name}@{backend}") for n in ctx.lab.running(Component.CINDER_VOLUME)]
        newest = f"volumev{max(ctx.release.cinder_api_versions)}"
        return (CatalogAnswers(ctx.lab.region, (newest,)), ServicesUp(newest, tuple(wanted)))

    def migrations(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        return migration(ctx, Component.CINDER_CONTROLLER, "cinder")

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        if not ctx.release.client_networks:
            return ()
        return (Check(ctx.identity_host, "openstack volume service list"),)
