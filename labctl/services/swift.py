"""swift: facts 6.8 and the swift install guide; any number of storage nodes, one zone each."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Copy, Directory, File, Operation
from labctl.operations.openstack import ApiOperation, CatalogAnswers, CatalogEntry
from labctl.secret import mark
from labctl.services.base import Chapter, Context, Daemon, children, counted, password_auth, service_account, stretch
from labctl.topology.spec import DiskSpec, NodeSpec

GUIDE = "guide: swift install, controller node; facts 6.8"
STORAGE = "guide: swift install, storage nodes; facts 6.8"
LAB = "labctl: few cores, so background daemons go round slowly and a test still sees them heal"
PORTS = {"account": 6202, "container": 6201, "object": 6200}
PARTITION_POWER = 10
MIN_PART_HOURS = 1
METERED = "guide: ceilometer install, enable Object Storage meters; telemetry 4"
SAMPLE = "proxy-server.conf sample of the package"
S3 = "swift/common/middleware/s3api/s3api.py: the pipeline with keystone; s3token.py"
_PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging cache container_sync bulk tempurl ratelimit formpost authtoken "
    "s3api s3token keystoneauth staticweb copy container-quotas account-quotas slo dlo versioned_writes "
    "proxy-logging ceilometer proxy-server"
)
#: Filters with more options than what they are.
_OWN = ("authtoken", "keystoneauth", "cache", "ceilometer", "s3token", "proxy-server")


def pipeline(ctx: Context) -> str:
    """The proxy's filters, with keystone's, which RDO's packaged pipeline lacks (troubleshooting B51).

    tempurl, formpost and staticweb, which the guide lacks, are where Swift's own sample has them: before the limits,
    just before and just after the authentication.
    """
    absent = {
        *(() if ctx.release.swift_copy else ("copy",)),
        *(() if ctx.release.swift_s3 else ("s3api", "s3token")),
        *(() if counted(ctx) else ("ceilometer",)),
    }
    return " ".join(f for f in _PIPELINE.split() if f not in absent)


def disks(node: NodeSpec) -> tuple[DiskSpec, ...]:
    """The disks of a storage node that are swift's: all but cinder's and nova's."""
    return tuple(d for d in node.disks if d.name not in ("cinder", "instances"))


def replicas(ctx: Context) -> int:
    """Three as in the guide, or the number of disks if that is lower: swift puts no two replicas on one disk."""
    return min(3, sum(len(disks(node)) for node in ctx.lab.running(Component.SWIFT_STORAGE)))


def _hash() -> File:
    conf = Ini("/etc/swift/swift.conf", group="swift", literal=True)
    conf.set(
        "swift-hash",
        GUIDE,
        {
            "swift_hash_path_suffix": mark("SWIFT_HASH_SUFFIX"),
            "swift_hash_path_prefix": mark("SWIFT_HASH_PREFIX"),
        },
    )
    conf.set("storage-policy:0", GUIDE, {"name": "Policy-0", "default": "yes"})
    return conf.file()


def proxy_conf(ctx: Context) -> File:
    """proxy-server.conf with keystone's middlewares in the pipeline."""
    conf = Ini("/etc/swift/proxy-server.conf", group="swift", literal=True)
    conf.set("DEFAULT", GUIDE, {"bind_port": 8080, "user": "swift", "swift_dir": "/etc/swift"})
    conf.set("DEFAULT", "topology: options.workers", {"workers": children(ctx)})
    conf.set("pipeline:main", f"{GUIDE}; tempurl, formpost and staticweb: {SAMPLE}", {"pipeline": pipeline(ctx)})
    conf.set("app:proxy-server", GUIDE, {"use": "egg:swift#proxy", "account_autocreate": True})
    stretch(ctx, conf, "app:proxy-server", {"node_timeout": 10, "conn_timeout": 0.5}, "swift")
    auth = password_auth(ctx, "swift", region=False)
    conf.set(
        "filter:authtoken",
        GUIDE,
        {
            "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
            ctx.release.authtoken_public_uri: ctx.auth_url,
            **auth,
            "memcached_servers": ctx.memcached,
            "delay_auth_decision": True,
        },
    )
    roles = f"admin,{ctx.release.member_role},SwiftOperator"
    conf.set("filter:keystoneauth", GUIDE, {"use": "egg:swift#keystoneauth", "operator_roles": roles})
    conf.set("filter:cache", GUIDE, {"use": "egg:swift#memcache", "memcache_servers": ctx.memcached})
    for name in pipeline(ctx).split():
        if name not in _OWN:
            egg = name.replace("-logging", "_logging").replace("-quotas", "_quotas")
            conf.set(f"filter:{name}", SAMPLE, {"use": f"egg:swift#{egg}"})
    if ctx.release.swift_s3:
        # keystone answers only services since CVE-2025-65073 (https://nvd.nist.gov/vuln/detail/CVE-2025-65073)
        token = {"use": "egg:swift#s3token", "auth_uri": f"{ctx.service_auth_url}/v3"}
        conf.set("filter:s3token", S3, {**token, **password_auth(ctx, "swift", region=False)})
    if counted(ctx):
        conf.set("filter:ceilometer", METERED, _meter(ctx))
    # off by default, and then X-Versions-Location has no effect
    conf.set("filter:versioned_writes", SAMPLE, {"allow_versioned_writes": True})
    return conf.file()


def _meter(ctx: Context) -> dict[str, str | bool]:
    """Options of the filter that tells the message bus of each request.

    It knows no file of oslo.config's, so its URL says that queues are durable, as all others of the lab. A proxy must
    not wait for a message bus that is down.
    """
    return {
        "paste.filter_factory": "ceilometermiddleware.swift:filter_factory",
        "control_exchange": "swift",
        "url": f"{ctx.transport_url}?amqp_durable_queues=true",
        "driver": "messagingv2",
        "topic": "notifications",
        "nonblocking_notify": True,
        "log_level": "WARNING",
    }


def server_conf(ctx: Context, node: NodeSpec, kind: str) -> File:
    """account-, container- or object-server.conf."""
    conf = Ini(f"/etc/swift/{kind}-server.conf", group="swift")
    conf.set(
        "DEFAULT",
        STORAGE,
        {
            "bind_ip": str(ctx.lab.address(node)),
            "bind_port": PORTS[kind],
            "user": "swift",
            "swift_dir": "/etc/swift",
            "devices": "/srv/node",
            "mount_check": True,
        },
    )
    conf.set("DEFAULT", "topology: options.workers", {"workers": children(ctx)})
    conf.set("pipeline:main", STORAGE, {"pipeline": f"healthcheck recon {kind}-server"})
    conf.set(f"app:{kind}-server", STORAGE, {"use": f"egg:swift#{kind}"})
    conf.set("filter:healthcheck", STORAGE, {"use": "egg:swift#healthcheck"})
    conf.set("filter:recon", STORAGE, {"use": "egg:swift#recon", "recon_cache_path": "/var/cache/swift"})
    conf.set(f"{kind}-replicator", LAB, {"interval": 30, "concurrency": 1})
    conf.set(f"{kind}-auditor", LAB, {"interval": 300})
    if kind == "account":
        conf.set("account-reaper", LAB, {"interval": 300})
    else:
        # the container updater starts a process for every partition it walks
        conf.set(f"{kind}-updater", LAB, {"interval": 600, "concurrency": 1})
    return conf.file()


def rsyncd_conf(ctx: Context, node: NodeSpec) -> File:
    """rsyncd.conf: one module per kind of server."""
    text = (
        "# Made by labctl; guide: swift install, storage nodes\n"
        "uid = swift\ngid = swift\nlog file = /var/log/rsyncd.log\npid file = /var/run/rsyncd.pid\n"
        f"address = {ctx.lab.address(node)}\n"
    )
    for kind in PORTS:
        text += (
            f"\n[{kind}]\nmax connections = 8\npath = /srv/node/\nread only = false\n"
            f"lock file = /var/lock/{kind}.lock\n"
        )
    return File("/etc/rsyncd.conf", text, source=STORAGE)


def _disk(ctx: Context, disk: DiskSpec) -> tuple[Operation, ...]:
    """An XFS file system mounted at /srv/node/NAME, also after a reboot.

    A kernel refuses to mount a second XFS with the same UUID: ``nouuid`` lets a clone's container run beside the
    original lab (xfs(5)).
    """
    point, unit = f"/srv/node/{disk.name}", f"swift-disk-{disk.name}.service"
    # a new file system has no labels, and one that swift may not read is as good as not mounted (errata 3-98)
    label = f" && restorecon {point}" if ctx.base.redhat else ""
    text = (
        "[Unit]\nDescription=Swift disk "
        f"{disk.name}\nBefore={ctx.base.unit('rsync')}.service\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/bin/sh -c '{{ mountpoint -q {point} || "
        f"mount -t xfs -o noatime,nouuid,logbufs=8 {disk.device} {point}; }} && "
        f"chown swift:swift {point}{label}'\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    return (
        Command(
            f"XFS on {disk.device}",
            f"mkfs.xfs -q -f {disk.device}",
            unless=f'[ "$(blkid -p -s TYPE -o value {disk.device})" = xfs ]',
            source=STORAGE,
        ),
        Command(f"mount point {point}", f"mkdir -p {point}", unless=f"[ -d {point} ]", source=STORAGE),
        File(f"/etc/systemd/system/{unit}", text, source="guide: swift install, storage nodes (there as fstab line)"),
        Command(
            f"mount {point}",
            f"systemctl enable -q {unit} && systemctl restart {unit} && mountpoint -q {point}",
            unless=f"mountpoint -q {point}",
            source=STORAGE,
        ),
    )


def _rings(ctx: Context) -> tuple[Operation, ...]:
    """The three rings, built on the proxy's node; zone N is the Nth storage node."""
    made: list[Operation] = []
    for kind, port in PORTS.items():
        builder = f"/etc/swift/{kind}.builder"
        lines = [
            f"rm -f {builder} && swift-ring-builder {builder} create {PARTITION_POWER} {replicas(ctx)} {MIN_PART_HOURS}"
        ]
        for zone, node in enumerate(ctx.lab.running(Component.SWIFT_STORAGE), start=1):
            lines += [
                f"swift-ring-builder {builder} add --region 1 --zone {zone} --ip {ctx.lab.address(node)} "
                f"--port {port} --device {disk.name} --weight 100"
                for disk in disks(node)
            ]
        lines.append(f"swift-ring-builder {builder} rebalance")
        lines.append(f"chgrp swift {builder} /etc/swift/{kind}.ring.gz")
        ring = f"/etc/swift/{kind}.ring.gz"
        made.append(Command(f"{kind} ring", " && ".join(lines), unless=f"[ -s {ring} ]", source=GUIDE))
    return tuple(made)


class Swift(Chapter):
    name = "swift"
    components = (Component.SWIFT_PROXY, Component.SWIFT_STORAGE)
    words = {
        "en": ("Objects: swift", "Files by HTTP, several copies of each on disks of their own."),
        "ko": ("오브젝트: swift", "HTTP로 접근하는 파일을 여러 디스크에 복제해 보관합니다."),
    }
    ports = {
        Component.SWIFT_PROXY: ("8080/tcp",),
        Component.SWIFT_STORAGE: ("873/tcp", "6200/tcp", "6201/tcp", "6202/tcp"),
    }
    logs = ("swift",)
    tempest = True

    def packages(self, ctx: Context, node: NodeSpec) -> tuple[str, ...]:
        meter = (
            ctx.base.daemon_packages.get("ceilometermiddleware", ())
            if counted(ctx) and node.has(Component.SWIFT_PROXY)
            else ()
        )
        return (*super().packages(ctx, node), *meter)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        base = f"http://{ctx.host(Component.SWIFT_PROXY)}:8080/v1"
        url = f"{base}/AUTH_%({ctx.release.endpoint_project})s"
        entry = CatalogEntry("swift", "object-store", "OpenStack Object Storage", url, ctx.lab.region, base)
        return (*service_account(ctx, "swift"), entry)

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(*self.components):
            return ()
        made: list[Operation] = [_hash()]
        if node.has(Component.SWIFT_PROXY):
            made += [proxy_conf(ctx), *_rings(ctx)]
        if node.has(Component.SWIFT_STORAGE):
            made += [server_conf(ctx, node, kind) for kind in PORTS]
            made += [rsyncd_conf(ctx, node), Directory("/var/cache/swift", "root", "swift", "0775")]
            for disk in disks(node):
                made += _disk(ctx, disk)
        return tuple(made)

    def copies(self, ctx: Context) -> tuple[Copy, ...]:
        proxy = ctx.host(Component.SWIFT_PROXY)
        targets = tuple(n.name for n in ctx.lab.running(Component.SWIFT_STORAGE) if n.name != proxy)
        files = tuple(f"/etc/swift/{kind}.ring.gz" for kind in PORTS)
        return (Copy(files, proxy, targets, GUIDE),) if targets else ()

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        daemons: list[Daemon] = []
        if node.has(Component.SWIFT_STORAGE):
            daemons.append(Daemon("rsync"))
            for kind, port in PORTS.items():
                url = f"http://{ctx.lab.address(node)}:{port}/healthcheck"
                test = f"curl -sf -m 5 {url} || {{ echo 'no answer on port {port}'; exit 1; }}"
                daemons.append(Daemon(f"swift-{kind}", ((f"swift {kind} server answers", test),)))
        if node.has(Component.SWIFT_PROXY):
            test = "curl -sf -m 5 http://127.0.0.1:8080/healthcheck"
            daemons.append(Daemon("swift-proxy", (("swift proxy answers", test),)))
        return tuple(daemons)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("object-store",)),)
