"""nova: facts 6.4 and the nova install guide of each release."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Assign, Command, Database, Directory, File, Operation
from labctl.operations.openstack import (
    ApiOperation,
    CatalogAnswers,
    CatalogEntry,
    ComputeHosts,
    HypervisorsMapped,
    ServicesUp,
)
from labctl.operations.populate import Invocation, Invocations, Populate
from labctl.releases.model import Placement as Where
from labctl.secret import mark
from labctl.services import cinder, openvswitch, virt
from labctl.services.base import (
    STAMPS,
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    counted,
    fills,
    http_ready,
    messaging,
    notifications,
    password_auth,
    privileged,
    service_account,
    stretch,
)
from labctl.services.upgrading import migration
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: nova install, install and configure components; facts 6.4"
CONTROLLER = "guide: nova install, controller node; facts 6.4"
COMPUTE = "guide: nova install, compute node; facts 6.4"
METERED = "guide: ceilometer install, compute node; telemetry 4"
LAB = "labctl: a lab of a few guests on few cores"
#: Name of the disk that holds guests, where a topology has one.
INSTANCES = "instances"
#: Sections of a compute node's privileged helpers (nova/privsep, os-brick, os-vif).
HELPERS = ("nova_sys_admin", "privsep_osbrick", "vif_plug_linux_bridge_privileged", "vif_plug_ovs_privileged")
#: Prefix of a host's stamp, on the controller, that the host is mapped into cell1.
MAPPED = f"{STAMPS}/nova-host-"


def _shared(ctx: Context, conf: Ini) -> None:
    """Options shared by controller and compute nodes."""
    release = ctx.release
    conf.set("DEFAULT", "nova.conf: the default is the code's own directory", {"state_path": "/var/lib/nova"})
    messaging(ctx, conf)
    notifications(ctx, conf, "nova")
    stretch(ctx, conf, "DEFAULT", {"report_interval": 10, "service_down_time": 60}, "nova")
    if release.nova_sleeps_to_stop:
        conf.set("DEFAULT", "labctl: daemons end by themselves; modern 4.2", {"manager_shutdown_timeout": 0})
    if release.nova_use_neutron:
        driver = "nova.virt.firewall.NoopFirewallDriver"
        conf.set("DEFAULT", GUIDE, {"use_neutron": True, "firewall_driver": driver})
    if release.nova_auth_strategy:
        conf.set(release.nova_auth_strategy, GUIDE, {"auth_strategy": "keystone"})
    authtoken(ctx, conf, "nova")
    if release.service_token:
        conf.set(
            "service_user",
            "bug 2004555: cinder refuses detach without a service token; facts 6.4",
            {"send_service_user_token": True, **password_auth(ctx, "nova", region=False)},
        )
    conf.set("glance", GUIDE, {"api_servers": f"http://{ctx.host(Component.GLANCE)}:9292"})
    conf.set("oslo_concurrency", GUIDE, {"lock_path": "/var/lib/nova/tmp"})
    if release.placement is not Where.NONE:
        conf.set("placement", GUIDE, password_auth(ctx, "placement"))
    neutron = dict(password_auth(ctx, "neutron"))
    if release.nova_neutron_url:
        neutron["url"] = f"http://{ctx.host(Component.NEUTRON_SERVER)}:9696"
    conf.set("neutron", "guide: neutron install, configure nova to use neutron; facts 6.4", neutron)
    if ctx.lab.has(Component.CINDER_CONTROLLER):
        conf.set(
            "cinder",
            "guide: cinder install, configure compute to use block storage",
            {"os_region_name": ctx.lab.region},
        )
    conf.set("spice", "facts 10: Debian ships it enabled beside VNC", {"enabled": False})


def raw_disks(ctx: Context) -> bool:
    """True if guests' disks are files of their own: QEMU takes no backing file whose format nova leaves out."""
    return ctx.base.backing_format and not ctx.release.nova_backing_format


#: A release that names the format of backing files takes every disk for qcow2.
_FORMATTED = """
for disk in /var/lib/nova/instances/*/disk; do
    if [ ! -f "$disk" ] || [ "$(head -c 3 "$disk")" = QFI ]; then continue; fi
    rm -f "$disk.qcow2"
    qemu-img convert -f raw -O qcow2 "$disk" "$disk.qcow2" && chown --reference="$disk" "$disk.qcow2" &&
        chmod --reference="$disk" "$disk.qcow2" && sed -i 's/"raw"/"qcow2"/' "${disk%/disk}/disk.info" &&
        mv "$disk.qcow2" "$disk" || exit 1
done
"""


def formatted() -> Command:
    """Give the disks of guests the format that nova expects from now on."""
    return Command("disks of guests are qcow2", _FORMATTED.strip(), source="nova.conf: use_cow_images; facts 6.4")


def configuration(ctx: Context, node: NodeSpec) -> File:
    """nova.conf of a node, with the controller's or the compute node's part, or both."""
    readers = (Component.NOVA_CONTROLLER, Component.PLACEMENT, Component.NOVA_COMPUTE)
    common = ctx.once(_common, tuple(component for component in readers if node.has(component)))
    return common.but("DEFAULT", GUIDE, {"my_ip": str(ctx.lab.address(node))}).file()


def _common(ctx: Context, runs: tuple[Component, ...]) -> Ini:
    """nova.conf of all nodes that run these, without their own addresses."""
    conf = Ini("/etc/nova/nova.conf", group="nova")
    conf.set("DEFAULT", GUIDE, {"my_ip": ""})  # the first of the file
    _shared(ctx, conf)
    prefix = ctx.release.nova_vnc_names.value
    controller = ctx.host(Component.NOVA_CONTROLLER)
    if Component.NOVA_CONTROLLER in runs:
        workers = ctx.lab.workers
        if ctx.release.nova_api_servers:
            conf.set("DEFAULT", CONTROLLER, {"enabled_apis": "osapi_compute,metadata"})
            numbers = {"osapi_compute_workers": workers, "metadata_workers": workers}
            conf.set("DEFAULT", "topology: options.workers", numbers)
        conf.set("conductor", "topology: options.workers", {"workers": workers})
        if ctx.release.nova_scheduler_workers:
            conf.set("scheduler", "topology: options.workers", {"workers": workers})
        conf.set("api_database", CONTROLLER, {"connection": ctx.database_url("nova", "nova_api")})
        conf.set("database", CONTROLLER, {"connection": ctx.database_url("nova", "nova")})
        conf.set(
            "neutron",
            "guide: neutron install, controller node, metadata agent",
            {"service_metadata_proxy": True, "metadata_proxy_shared_secret": mark("METADATA_SECRET")},
        )
        if ctx.release.cells_v2:
            conf.set("scheduler", GUIDE, {"discover_hosts_in_cells_interval": 300})
        conf.set(
            "vnc",
            CONTROLLER,
            {"enabled": True, f"{prefix}listen": "$my_ip", f"{prefix}proxyclient_address": "$my_ip"},
        )
    if ctx.release.placement is Where.IN_NOVA and (Component.NOVA_CONTROLLER in runs or Component.PLACEMENT in runs):
        conf.set("placement_database", CONTROLLER, {"connection": ctx.database_url("placement", "placement")})
    if Component.NOVA_COMPUTE in runs:
        conf.set("DEFAULT", COMPUTE, {"compute_driver": "libvirt.LibvirtDriver"})
        privileged(ctx, conf, *HELPERS)
        # free resources are also counted when a guest comes or goes; the periodic update runs qemu-img on every disk
        limits = {"vif_plugging_timeout": 300, "heal_instance_info_cache_interval": 60, "update_resources_interval": 60}
        stretch(ctx, conf, "DEFAULT", limits, "nova")
        conf.set(
            "vnc",
            COMPUTE,
            {
                "enabled": True,
                f"{prefix}listen": "0.0.0.0",
                f"{prefix}proxyclient_address": "$my_ip",
                "novncproxy_base_url": f"http://{controller}:6080/vnc_auto.html",
            },
        )
        if counted(ctx):
            audit: dict[str, str | bool] = {"instance_usage_audit": True, "instance_usage_audit_period": "hour"}
            conf.set("DEFAULT", METERED, audit)
            conf.set("notifications", METERED, {"notify_on_state_change": "vm_and_task_state"})
        conf.set("DEFAULT", LAB, {"reserved_host_memory_mb": 256, "resize_confirm_window": 0})
        if not ctx.release.nova_overcommits:
            ratios = {"initial_cpu_allocation_ratio": "16.0", "initial_ram_allocation_ratio": "1.5"}
            conf.set("DEFAULT", "labctl: guests share what hosts have, as they did before 2023.1", ratios)
        if raw_disks(ctx):
            conf.set("DEFAULT", "QEMU 6.1 removed features: backing file without format", {"use_cow_images": False})
        conf.set("DEFAULT", "nova.conf: guests run again after a restart", {"resume_guests_state_on_host_boot": True})
        conf.set("libvirt", "guide: compute node, hardware acceleration; facts 4.1", virt.options(ctx))
        conf.set("workarounds", LAB, {"disable_rootwrap": False})
    return conf


def _compute(ctx: Context) -> File:
    """The packages' second file of nova-compute."""
    conf = Ini(ctx.base.paths["nova-compute.conf"], group="nova")
    conf.set("libvirt", "facts 10: this file wins over nova.conf", virt.options(ctx))
    return conf.file()


def instance_disk(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    """A disk named "instances" under nova's directory, mounted before nova-compute starts (facts 6.4)."""
    disk = next((d for d in node.disks if d.name == INSTANCES), None)
    if disk is None:
        return ()
    point, source = "/var/lib/nova/instances", "Mitaka notes; facts 6.4; errata 2-6 to 2-9"
    made: list[Operation] = [
        Command(
            f"ext4 on {disk.device}",
            f"mkfs.ext4 -q {disk.device}",
            unless=f'[ "$(blkid -p -s TYPE -o value {disk.device})" = ext4 ]',
            source=source,
        ),
        Command(
            f"mount {point}",
            f"uuid=$(blkid -p -s UUID -o value {disk.device}) && mkdir -p {point} && "
            f'echo "UUID=$uuid {point} ext4 defaults 0 2" >>/etc/fstab && mount {point}',
            unless=f"mountpoint -q {point} && grep -q '^UUID=.* {point} ' /etc/fstab",
            source=source,
        ),
        Directory(point, "nova", "nova", "0755"),
    ]
    if ctx.base.redhat:
        made.append(
            Command(
                f"labels below {point}",
                f"restorecon -R {point}",
                unless=f"! restorecon -n -v {point} | grep -q .",
                source=source,
            )
        )
    return tuple(made)


def _once(title: str, words: str, allowed: int = 0) -> Invocation:
    # once for the lab, not for each release as tables are: an upgrade forgets those stamps
    return Invocation(title, words, "nova", f"{STAMPS}/nova-{title}", allowed=allowed, source=GUIDE)


def _tables(ctx: Context) -> Iterator[Invocation]:
    """What makes nova's tables and cells; create_cell exits with 2 when the cell already exists (B28)."""
    yield fills("nova api_db sync", "api_db sync", "nova")
    if ctx.release.cells_v2:
        yield _once("cell0", "cell_v2 map_cell0")
        yield _once("cell1", "cell_v2 create_cell --name=cell1 --verbose", allowed=2)
    yield fills("nova db sync", "db sync", "nova")


class Nova(Chapter):
    name = "nova"
    components = (Component.NOVA_CONTROLLER, Component.NOVA_COMPUTE)
    words = {
        "en": (
            "Compute: nova",
            "Makes servers: API, scheduler, conductor and console proxy, and nova-compute on each hypervisor.",
        ),
        "ko": (
            "컴퓨트: nova",
            "서버를 만듭니다: API, 스케줄러, 컨덕터, 콘솔 프록시와 각 하이퍼바이저의 nova-compute.",
        ),
    }
    ports = {
        Component.NOVA_CONTROLLER: ("6080/tcp", "8774/tcp", "8775/tcp"),
        Component.NOVA_COMPUTE: ("5900-5999/tcp", "16509/tcp", "49152-49215/tcp"),
    }
    logs = ("nova",)
    tempest = True
    status_on = Component.NOVA_CONTROLLER

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        names = ["nova_api", "nova"]
        if ctx.release.cells_v2:
            names.append("nova_cell0")
        return tuple(Database(n, "nova", mark("NOVA_DBPASS")) for n in names)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.NOVA_CONTROLLER)}:8774{ctx.release.nova_endpoint_path}"
        return (
            *service_account(ctx, "nova"),
            CatalogEntry("nova", "compute", "OpenStack Compute", url, ctx.lab.region),
        )

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        reads = (Component.PLACEMENT,) if ctx.release.placement is Where.IN_NOVA else ()
        if not node.has(*self.components, *reads):
            return ()
        made: list[Operation] = [
            *(ctx.once(virt.proof) if node.has(Component.NOVA_COMPUTE) else ()),
            configuration(ctx, node),
            Directory("/var/lib/nova/tmp", "nova", "nova", "0755"),
        ]
        if node.has(Component.NOVA_CONTROLLER):
            made += processes(ctx, "nova-api")
            if "console-proxy" in ctx.base.paths:
                proxy = (("NOVA_CONSOLE_PROXY_TYPE", "novnc"),)
                made.append(Assign(ctx.base.paths["console-proxy"], proxy, "facts 10, B25", separator="="))
        if node.has(Component.NOVA_COMPUTE):
            made += (*instance_disk(ctx, node), *ctx.once(openvswitch.hook))
            if "nova-compute.conf" in ctx.base.paths:
                made.append(ctx.once(_compute))
            if cinder.shares_nfs(ctx):
                made += cinder.nfs_helper()
            if "libvirt-cgroups" in ctx.base.paths:
                made.append(
                    Assign(
                        ctx.base.paths["libvirt-cgroups"],
                        (("cgroup_controllers", "[ ]"),),
                        "libvirt in a container: the node cannot make cgroups for guests",
                    )
                )
        return tuple(made)

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        # api_db sync also makes the tables of placement, where that belongs to nova
        whole = ctx.release.placement is not Where.IN_NOVA
        filled = ctx.filled("nova", *(d.name for d in self.databases(ctx))) if whole else ""
        made = Invocations("nova tables and cells", "nova-manage", tuple(_tables(ctx)), filled=filled)
        return ((ctx.host(Component.NOVA_CONTROLLER), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        daemons: list[Daemon] = []
        if node.has(Component.NOVA_CONTROLLER):
            daemons += [
                Daemon("nova-conductor"),
                Daemon("nova-scheduler"),
                Daemon("nova-api", (http_ready("nova", "http://127.0.0.1:8774/"),)),
                Daemon("nova-novncproxy", order=2),
            ]
            if ctx.release.consoleauth:
                daemons.append(Daemon("nova-consoleauth"))
        if node.has(Component.NOVA_COMPUTE):
            daemons += [
                Daemon("libvirtd", (("libvirt answers", "virsh -c qemu:///system list"),), stage="services"),
                Daemon("nova-compute", order=2, stage="compute"),
            ]
        return tuple(daemons)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        host = ctx.host(Component.NOVA_CONTROLLER)
        hosts = tuple(n.name for n in ctx.lab.running(Component.NOVA_COMPUTE))
        binaries = ("nova-conductor", "nova-scheduler", *(("nova-consoleauth",) if ctx.release.consoleauth else ()))
        services = (*((b, host) for b in binaries), *(("nova-compute", h) for h in hosts))
        return (
            CatalogAnswers(ctx.lab.region, ("compute",)),
            ServicesUp("compute", services),
            *((ComputeHosts(hosts), HypervisorsMapped(hosts)) if hosts else ()),
        )

    def migrations(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        return migration(ctx, Component.NOVA_CONTROLLER, "nova")

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        listed = Check(ctx.identity_host, "openstack compute service list")
        if not ctx.release.cells_v2:
            return (listed,)
        # 1 means warnings: https://docs.openstack.org/nova/latest/cli/nova-status.html
        return (listed, Check(ctx.host(Component.NOVA_CONTROLLER), "nova-status upgrade check || [ $? -eq 1 ]"))


def map_hosts(ctx: Context) -> tuple[Operation, ...]:
    """Map every registered compute node into cell1 (troubleshooting A18); only after they have registered.

    :class:`HypervisorsMapped` in the stage verify checks the result: the API lists mapped hosts only.
    """
    hosts = [n.name for n in ctx.lab.running(Component.NOVA_COMPUTE)]
    if not hosts or not ctx.release.cells_v2:
        return ()
    stamps = [f"{MAPPED}{host}" for host in hosts]
    return (
        Command(
            "compute nodes mapped into cell1",
            f'su -s /bin/sh -c "nova-manage cell_v2 discover_hosts --verbose" nova && touch {" ".join(stamps)}',
            unless=" && ".join(f"[ -e {stamp} ]" for stamp in stamps),
            source="guide: compute node, add the compute node to the cell database",
        ),
    )
