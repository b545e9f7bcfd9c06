"""SELinux: mode, booleans, ports, labels (facts 8.1), and the policy modules of the notes where they are needed."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.bases.model import RedHat
from labctl.components import Component as C
from labctl.operations.node import Command, File, Item
from labctl.releases.model import RDO
from labctl.services.base import Context
from labctl.topology.spec import NodeSpec

SOURCE = "facts 8.1"
DIRECTORY = "/usr/local/share/labctl/selinux"


@dataclass(frozen=True)
class Module:
    """A policy module of the Ussuri notes: who was denied what; ``target`` of "self" is the source itself."""

    name: str
    on: tuple[C, ...]
    #: (source type, target type, class, permissions)
    rules: tuple[tuple[str, str, str, tuple[str, ...]], ...]

    def text(self) -> str:
        """The module in checkmodule's language; every type is declared once (errata 3-64)."""
        types = sorted({t for source, target, _, _ in self.rules for t in (source, target) if t != "self"})
        classes: dict[str, set[str]] = {}
        for _, _, kind, permissions in self.rules:
            classes.setdefault(kind, set()).update(permissions)
        lines = [f"module {self.name} 1.0;", "", "require {"]
        lines += [f"    type {t};" for t in types]
        lines += [f"    class {kind} {{ {' '.join(sorted(p))} }};" for kind, p in sorted(classes.items())]
        lines += ["}", ""]
        lines += [f"allow {s} {t}:{kind} {{ {' '.join(p)} }};" for s, t, kind, p in self.rules]
        return "\n".join(lines) + "\n"

    def denials(self) -> str:
        """Pattern of the audit messages that it fixes."""
        return "|".join(
            f":{s}:.*tcontext=[^ ]*:{s if t == 'self' else t}:.*tclass={kind}( |$)" for s, t, kind, _ in self.rules
        )


MODULES = (
    Module(
        "rabbitmqctl",
        (C.RABBITMQ,),
        (
            ("rabbitmq_t", "etc_t", "file", ("write",)),
            ("init_t", "rabbitmq_var_lib_t", "file", ("getattr",)),
            ("init_t", "rabbitmq_var_log_t", "file", ("getattr",)),
        ),
    ),
    Module(
        "keystone-httpd",
        (C.KEYSTONE,),
        (
            ("httpd_t", "keystone_log_t", "dir", ("add_name", "write")),
            ("httpd_t", "keystone_log_t", "file", ("create",)),
        ),
    ),
    Module(
        "glanceapi",
        (C.GLANCE,),
        (
            ("glance_api_t", "httpd_config_t", "dir", ("search",)),
            ("glance_api_t", "iscsid_exec_t", "file", ("getattr", "open", "read")),
        ),
    ),
    Module(
        "ovsofctl",
        (C.NEUTRON_L2,),
        (
            ("neutron_t", "self", "capability", ("dac_override", "sys_rawio")),
            ("neutron_t", "neutron_exec_t", "file", ("execute_no_trans",)),
            ("dnsmasq_t", "self", "capability", ("dac_override",)),
        ),
    ),
    Module("iscsiadm", (C.CINDER_VOLUME, C.NOVA_COMPUTE), (("iscsid_t", "self", "capability", ("dac_override",)),)),
)


def _mode(mode: str) -> Command:
    """/etc/sysconfig/selinux is a symlink, which editing in place would turn into a stale copy (errata 2-5)."""
    line = f"SELINUX={mode}"
    return Command(
        f"SELinux is {mode}",
        'if [ "$(getenforce)" = Disabled ]; then\n'
        'echo "SELinux is disabled; boot without selinux=0, and the next labctl up continues"\nexit 1\nfi\n'
        f"setenforce {1 if mode == 'enforcing' else 0} && sed -i 's/^SELINUX=.*/{line}/' /etc/selinux/config",
        unless=f'[ "$(getenforce)" = {mode.capitalize()} ] && grep -qx {line} /etc/selinux/config',
        source="facts 8.1; errata 2-5",
    )


def _booleans(names: tuple[str, ...]) -> Command:
    """Set the booleans that the policy has; they differ between policy versions."""
    left = (
        f'left=; for name in {" ".join(names)}; do case "$(getsebool $name 2>/dev/null)" in '
        '""|*" on") ;; *) left="$left $name=1" ;; esac; done'
    )
    return Command(
        "SELinux booleans",
        f"{left}\n# shellcheck disable=SC2086\nsetsebool -P $left",
        unless=f'{left}; [ -z "$left" ]',
        source=SOURCE,
    )


def _port(port: int, kind: str) -> Command:
    """-a fails if the port already has a label, -m if it has none (errata 3-31)."""
    return Command(
        f"SELinux lets {kind} have port {port}",
        f"semanage port -a -t {kind} -p tcp {port} || semanage port -m -t {kind} -p tcp {port}",
        unless=f"semanage port -l | grep -Eq '^{kind} .*[ ,]{port}(,|$)'",
        source=SOURCE,
    )


def _label(path: str, kind: str) -> Command:
    """The whole tree below a mount point, and not the mount point alone (errata 3-98)."""
    pattern = f"{path}(/.*)?"
    return Command(
        f"{path} is {kind}",
        f"semanage fcontext -a -t {kind} '{pattern}' || semanage fcontext -m -t {kind} '{pattern}'\n"
        f"mkdir -p {path} && restorecon -R {path}",
        unless=f"semanage fcontext -l -C | grep -F '{pattern}' | grep -qw {kind}",
        source=SOURCE,
    )


def operations(ctx: Context, system: RedHat, rdo: RDO, node: NodeSpec) -> tuple[Item, ...]:
    """Everything that must hold before the daemons start."""
    made: list[Item] = [_mode(rdo.selinux), _booleans(system.booleans)]
    if node.has(C.PLACEMENT):
        made.append(_port(8778, "http_port_t"))
    made += [
        _port(port, "http_port_t") for component, port in ((C.GNOCCHI, 8041), (C.AODH, 8042)) if node.has(component)
    ]
    if node.has(C.SWIFT_STORAGE):
        made.append(_label("/srv/node", "swift_data_t"))
    return tuple(made)


def modules(node: NodeSpec) -> tuple[Item, ...]:
    """The notes' own modules, each only where its denial was seen since boot (facts 8.1)."""
    made: list[Item] = []
    for module in MODULES:
        if not node.has(*module.on):
            continue
        stem = f"{DIRECTORY}/{module.name}"
        made += [
            File(f"{stem}.te", module.text(), source="Ussuri notes; facts 8.1"),
            Command(
                f"policy module {module.name}, if it is needed",
                f"checkmodule -M -m -o {stem}.mod {stem}.te && semodule_package -o {stem}.pp -m {stem}.mod && "
                f"semodule -i {stem}.pp",
                unless=f"semodule -l | grep -qw {module.name} || "
                f"! ausearch -m avc,user_avc -ts boot | grep -Eq '{module.denials()}'",
                source="Ussuri notes; facts 8.1",
            ),
        ]
    return tuple(made)
