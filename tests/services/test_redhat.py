"""What nodes of Red Hat's family need besides: run for real where that is possible here, compared where it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT, planned, specify, write

from labctl.components import Component
from labctl.errors import LabError
from labctl.host import process
from labctl.operations.node import Command, flatten
from labctl.services import cinder, httpd, nova, redhat
from labctl.services.base import Context
from labctl.services.redhat import cards, firewall, selinux
from labctl.topology.model import VolumeBackend
from labctl.topology.spec import CardSpec

TRAIN = ROOT / "topologies" / "train-2node.yaml"
MITAKA = ROOT / "topologies" / "mitaka-3node.yaml"


# --- cards -----------------------------------------------------------------------------------------


def test_cards_are_known_by_their_addresses_and_only_management_has_a_route(train: Context) -> None:
    node = train.lab.nodes["controller"]
    files = {i.path: i.content for i in flatten(cards.operations(train, node)) if hasattr(i, "content")}
    rules = files["/etc/udev/rules.d/70-labctl-cards.rules"].splitlines()[1:]
    assert [re.findall(r'address}=="([^"]*)".*NAME="([^"]*)"', rule)[0] for rule in rules] == [
        (c.mac, c.name) for c in node.interfaces
    ]
    management = files["/etc/sysconfig/network-scripts/ifcfg-eth0"].splitlines()
    provider = files["/etc/sysconfig/network-scripts/ifcfg-eth1"].splitlines()
    assert {"DEFROUTE=yes", "IPADDR=10.0.0.11", "PREFIX=24", "GATEWAY=10.0.0.1", "IPV6INIT=no"} <= set(management)
    assert {"DEFROUTE=no", "BOOTPROTO=none", "ONBOOT=yes", "IPV6INIT=no"} <= set(provider)
    assert not [line for line in provider if line.startswith(("IPADDR", "GATEWAY", "UUID"))]
    assert not [line for line in management if line.startswith("UUID")]


def test_a_bond_has_the_address_and_its_cards_have_only_their_place(train: Context) -> None:
    first, *rest = train.lab.nodes["controller"].interfaces
    members = (CardSpec(name="eth7", mac="52:54:00:00:00:07"), CardSpec(name="eth8", mac="52:54:00:00:00:08"))
    bond = first.model_copy(update={"name": "bond0", "mac": members[0].mac, "members": members})
    node = train.lab.nodes["controller"].model_copy(update={"interfaces": (bond, *rest)})
    files = {i.path: i.content for i in flatten(cards.operations(train, node)) if hasattr(i, "content")}
    scripts = "/etc/sysconfig/network-scripts/ifcfg-"
    wanted = {"TYPE=Bond", "BONDING_MASTER=yes", "IPADDR=10.0.0.11", f"MACADDR={members[0].mac}"}
    assert wanted <= set(files[f"{scripts}bond0"].splitlines())
    for member in members:
        lines = files[f"{scripts}{member.name}"].splitlines()
        assert {"MASTER=bond0", "SLAVE=yes", f"HWADDR={member.mac}"} <= set(lines)
        assert not [line for line in lines if line.startswith(("IPADDR", "GATEWAY", "DEFROUTE"))]
        assert member.mac in files["/etc/udev/rules.d/70-labctl-cards.rules"]


# --- SELinux ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", selinux.MODULES, ids=lambda m: m.name)
def test_a_policy_module_compiles(module: selinux.Module, tmp_path: Path) -> None:
    source = tmp_path / f"{module.name}.te"
    source.write_text(module.text())
    process.run(["checkmodule", "-M", "-m", "-o", source.with_suffix(".mod"), source])
    process.run(["semodule_package", "-o", source.with_suffix(".pp"), "-m", source.with_suffix(".mod")])
    assert source.with_suffix(".pp").stat().st_size > 0


def test_the_policy_modules_are_the_notes_own() -> None:
    """Every rule of the five modules of the Ussuri notes, and no other."""
    seed = ROOT / ".." / "shared" / "seeds" / "003_f01279f2d545d9aa.txt"
    if not seed.exists():
        pytest.skip("the notes are not beside the project")
    allowed: set[tuple[str, str, str, frozenset[str]]] = set()
    for line in re.findall(r"^allow (.*);$", seed.read_text(), re.MULTILINE):
        source, rest = line.split(" ", 1)
        target, kind = rest.split(":")
        permissions = re.findall(r"\w+", kind.partition(" ")[2])
        allowed.add((source, target, kind.split(" ")[0], frozenset(permissions)))
    assert allowed == {(s, t, k, frozenset(p)) for m in selinux.MODULES for s, t, k, p in m.rules}


DENIAL = (
    'type=AVC msg=audit(1600000000.1:42): avc:  denied  { search } for  pid=1 comm="glance-api" name="httpd" '
    "scontext=system_u:system_r:glance_api_t:s0 tcontext=system_u:object_r:httpd_config_t:s0 tclass=dir permissive=0\n"
)
SELF = (
    'type=AVC msg=audit(1600000000.1:43): avc:  denied  { dac_override } for  pid=1 comm="iscsid" '
    "scontext=system_u:system_r:iscsid_t:s0 tcontext=system_u:system_r:iscsid_t:s0 tclass=capability permissive=0\n"
)


@pytest.mark.parametrize(
    ("audit", "loaded", "made"),
    [
        ("", "", []),
        (DENIAL, "", ["glanceapi"]),
        (DENIAL, "glanceapi 1.0\n", []),
        (SELF, "", ["iscsiadm"]),
        (DENIAL + SELF, "", ["glanceapi", "iscsiadm"]),
        (DENIAL.replace("httpd_config_t", "etc_t"), "", []),
    ],
)
def test_a_policy_module_is_loaded_where_its_denial_was_seen(
    audit: str, loaded: str, made: list[str], tmp_path: Path
) -> None:
    (tmp_path / "audit").write_text(audit)
    (tmp_path / "loaded").write_text(loaded)
    tools = f"""
ausearch() {{ [ -s {tmp_path}/audit ] && cat {tmp_path}/audit; }}
semodule() {{ if [ "$1" = -l ]; then cat {tmp_path}/loaded; else echo "$*" >>{tmp_path}/calls; fi; }}
checkmodule() {{ :; }}
semodule_package() {{ :; }}
"""
    spec = specify(TRAIN, base="centos7")
    everything = spec.nodes["controller"].model_copy(update={"runs": tuple(Component)})
    for item in flatten(selinux.modules(everything)):
        if isinstance(item, Command):
            assert process.run(["sh", "-c", tools + item.shell()], check=False).returncode in (0, 10)
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert re.findall(r"-i \S*/(\S+)\.pp", calls) == made


@pytest.mark.parametrize(("was", "status", "calls"), [("off", 10, 1), ("on", 0, 0), ("", 0, 0)])
def test_booleans_that_the_policy_has_are_switched_on_once(was: str, status: int, calls: int, tmp_path: Path) -> None:
    """A policy of another age has not all of them; setsebool would refuse the whole list."""
    operation = selinux._booleans(("a_boolean", "b_boolean"))
    answer = f'echo "$1 --> {was}"' if was else "return 1"
    tools = f'getsebool() {{ {answer}; }}\nsetsebool() {{ echo "$*" >>{tmp_path}/calls; }}\n'
    assert process.run(["sh", "-c", tools + operation.shell()], check=False).returncode == status
    said = (tmp_path / "calls").read_text() if calls else ""
    assert said == ("-P a_boolean=1 b_boolean=1\n" if calls else "")


def test_the_mode_is_the_releases(train: Context) -> None:
    mitaka = Context.of(specify(MITAKA, base="centos7"))
    for ctx, mode in ((train, "enforcing"), (mitaka, "permissive")):
        titles = [i.title for i in flatten(redhat.protect(ctx, ctx.lab.nodes["controller"]))]
        assert f"SELinux is {mode}" in titles


# --- firewalld -------------------------------------------------------------------------------------


def test_openings_are_those_of_the_facts(ussuri: Context) -> None:
    nodes = ussuri.lab.nodes
    assert set(firewall.openings(ussuri, nodes["storage1"])) == {"873/tcp", "6200/tcp", "6201/tcp", "6202/tcp"}
    controller = set(firewall.openings(ussuri, nodes["controller"]))
    assert {"3306/tcp", "5672/tcp", "11211/tcp", "5000/tcp", "9292/tcp", "8778/tcp", "80/tcp", "123/udp"} <= controller
    assert {"6080/tcp", "8774/tcp", "8775/tcp", "8776/tcp", "9696/tcp"} <= controller
    assert "35357/tcp" not in controller
    mitaka = Context.of(specify(MITAKA, base="centos7"))
    assert "35357/tcp" in firewall.openings(mitaka, mitaka.lab.nodes["controller"])
    assert set(firewall.openings(mitaka, mitaka.lab.nodes["block1"])) == {"3260/tcp"}


@pytest.mark.parametrize(
    ("now", "permanent", "status"), [("873/tcp", "873/tcp", 10), ("ALL", "873/tcp", 10), ("ALL", "ALL", 0)]
)
def test_ports_are_opened_now_and_for_ever_and_once(
    now: str, permanent: str, status: int, ussuri: Context, tmp_path: Path
) -> None:
    node = ussuri.lab.nodes["storage1"]
    wanted = " ".join(firewall.openings(ussuri, node))
    now, permanent = (wanted if said == "ALL" else said for said in (now, permanent))
    tools = (
        f'firewall-cmd() {{ case "$*" in --list-ports) echo {now} ;; "--permanent --list-ports") echo {permanent} ;; '
        f'*) echo "$*" >>{tmp_path}/calls ;; esac; }}\n'
    ).replace("firewall-cmd()", "firewall_cmd()")
    (operation,) = (i for i in flatten(firewall.operations(ussuri, node)) if i.title.startswith("openings"))
    shell = operation.shell().replace("firewall-cmd", "firewall_cmd")
    assert process.run(["sh", "-c", tools + shell], check=False).returncode == status
    calls = (tmp_path / "calls").read_text().splitlines() if status else []
    adding = " ".join(f"--add-port={p}" for p in wanted.split())
    assert calls == ([f"-q --permanent {adding}", "-q --reload"] if status else [])


# --- Apache, disks ---------------------------------------------------------------------------------


def test_apache_is_started_again_for_each_of_its_services_and_once_together(train: Context) -> None:
    made = planned(train.lab)
    starts = {
        stage.name: [
            o.title for o in flatten(tuple(stage.nodes.get("controller", ()))) if o.title.startswith("start httpd")
        ]
        for stage in made.stages
    }
    assert starts["keystone"] == ["start httpd for keystone"]
    assert starts["services"] == ["start httpd for placement+horizon"]


def test_each_start_of_a_shared_unit_has_a_stamp_of_its_own(train: Context) -> None:
    made = planned(train.lab)
    shells = [
        o.shell()
        for stage in made.stages
        for o in flatten(tuple(stage.nodes.get("controller", ())))
        if o.title.startswith("start httpd")
    ]
    assert [s.split()[-1] for s in shells] == ["keystone", "placement+horizon"]


def test_a_base_without_apache_for_its_apis_has_none_of_its_files() -> None:
    ctx = Context.of(specify(ROOT / "topologies" / "zed-2node.yaml"))
    assert httpd.keystone(ctx) == httpd.placement(ctx, "/l", "u") == ()


LVM_CONF = (
    'config {\n\tchecks = 1\n}\ndevices {\n\tdir = "/dev"\n\t# filter = [ "a|.*/|" ]\n\tfilter = [ "a|old|" ]\n}\n'
)


def test_lvm_looks_at_cinders_disk_only(tmp_path: Path, ussuri: Context) -> None:
    lab = ussuri.lab.model_copy(update={"volume_backend": VolumeBackend.LVM})
    ctx = Context(lab, ussuri.release, ussuri.base)
    (operation,) = cinder.lvm_filter(ctx, lab.nodes["compute"])
    path = tmp_path / "lvm.conf"
    path.write_text(LVM_CONF)
    shell = operation.shell().replace("/etc/lvm/lvm.conf", str(path))
    assert [process.run(["sh", "-c", shell], check=False).returncode for _ in range(2)] == [10, 0]
    wanted = '\tfilter = [ "a|^/dev/disk/by-id/virtio-cinder$|", "r|.*|" ]'
    assert path.read_text() == LVM_CONF.replace('\tfilter = [ "a|old|" ]\n', "").replace(
        "devices {\n", f"devices {{\n{wanted}\n"
    )
    assert cinder.lvm_filter(ctx, lab.nodes["network"]) == ()


def test_lvm_looks_at_no_volume_that_a_node_attaches() -> None:
    lab = specify(ROOT / "topologies" / "mitaka-3node.yaml", base="centos7", driver="libvirt")
    ctx = Context.of(lab)
    shells = {
        name: "".join(o.shell() for o in cinder.Cinder().configure(ctx, node)) for name, node in lab.nodes.items()
    }
    attaches = {name for name, node in lab.nodes.items() if node.has(Component.NOVA_COMPUTE, Component.CINDER_VOLUME)}
    assert any(not lab.nodes[name].has(Component.CINDER_VOLUME) for name in attaches)
    assert {name for name, shell in shells.items() if '"r|.*|" ]' in shell} == attaches


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as sink:
        sink.truncate(64 * 2**20)
    return path


def test_the_instance_disk_is_made_once_and_mounted_before_nova_starts(disk: Path, tmp_path: Path) -> None:
    ctx = Context.of(specify(MITAKA, base="centos7"))
    node = ctx.lab.nodes["compute1"]
    operations = nova.instance_disk(ctx, node)
    device = node.disks[0].device
    tools = f'mount() {{ echo "$*" >>{tmp_path}/calls; }}\nmountpoint() {{ [ -e {tmp_path}/calls ]; }}\n'

    def run(operation: object) -> int:
        shell = operation.shell().replace(device, str(disk)).replace("/etc/fstab", str(tmp_path / "fstab"))  # type: ignore[attr-defined]
        shell = shell.replace("/var/lib/nova/instances", str(tmp_path / "instances"))
        return process.run(["sh", "-c", tools + shell], check=False).returncode

    commands = [o for o in operations if isinstance(o, Command)]
    (tmp_path / "fstab").touch()
    assert [run(o) for o in commands[:2]] == [10, 10]
    assert [run(o) for o in commands[:2]] == [0, 0]
    uuid = process.output(["blkid", "-p", "-s", "UUID", "-o", "value", str(disk)])
    assert (tmp_path / "fstab").read_text() == f"UUID={uuid} {tmp_path}/instances ext4 defaults 0 2\n"
    titles = [s.name for s in planned(ctx.lab).stages]
    assert titles.index("configure") < titles.index("compute")


def test_a_copy_of_the_vault_is_named_by_a_url(tmp_path: Path) -> None:
    """It goes into shell programs and into the package manager's files."""
    for wrong in ("ftp://host/vault", "http://host/a b", "http://host/$(reboot)'", "host"):
        text = TRAIN.read_text().replace("options:\n", f'options:\n  vault: "{wrong}"\n')
        with pytest.raises(LabError, match=r"lab\.yaml:\d+:\d+: options\.vault"):
            specify(write(tmp_path, text), base="centos7")
