"""How OpenSSH's client logs in to the nodes of a lab: for ``labctl ssh``, a configuration file, Ansible's inventory."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from labctl.records.lab import Lab
from labctl.topology.spec import NodeSpec


def options(lab: Lab) -> dict[str, str]:
    """The options of every node, quoted as ssh_config(5) wants them."""
    keys = lab.directory / "keys"
    return {
        "User": "root",
        "IdentityFile": _quoted(str(keys / "id_ed25519")),
        "UserKnownHostsFile": _quoted(str(keys / "known_hosts")),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "20",
        "LogLevel": "ERROR",
    }


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def into(lab: Lab) -> dict[str, str]:
    """The options by which a client outside comes into the lab's namespace; it needs root."""
    words = ["ip", "netns", "exec", lab.namespace, sys.executable, "-P", "-m", "labctl.host.handover"]
    return {"ProxyCommand": f"{shlex.join(words).replace('%', '%%')} %h %p", "ProxyUseFdpass": "yes"}


def config(lab: Lab) -> str:
    """A configuration with which ``ssh -F FILE NODE`` logs in to the running nodes."""
    nodes = lab.spec.nodes.values()
    lines = [
        f"# Made by labctl: the nodes of {lab.name}, for root on this machine",
        f"Host {' '.join(node.name for node in nodes)}",
        *(f"    {name} {value}" for name, value in {**options(lab), **into(lab)}.items()),
    ]
    for node in nodes:
        lines += [f"Host {node.name}", f"    HostName {lab.spec.address(node)}"]
    return "\n".join(lines) + "\n"


# --- Ansible's dynamic inventory -------------------------------------------------------------------


def inventory(lab: Lab) -> dict[str, Any]:
    """The lab for ``ansible -i``: a group for each component, as ``--list`` of an inventory script prints it.

    In the names of groups ``-`` is ``_``: they are identifiers in Ansible.
    """
    nodes = lab.spec.nodes.values()
    components = dict.fromkeys(component.value for node in nodes for component in node.runs)
    groups = {_group(component): {"hosts": [n.name for n in nodes if component in n.runs]} for component in components}
    return {
        "_meta": {"hostvars": {node.name: variables(lab, node) for node in nodes}},
        "all": {"hosts": [node.name for node in nodes], "children": ["ungrouped", *groups]},
        **groups,
    }


def _group(component: str) -> str:
    return component.replace("-", "_")


def variables(lab: Lab, node: NodeSpec) -> dict[str, Any]:
    """The variables of a host in that inventory, as ``--host`` prints them."""
    more = {**options(lab), **into(lab)}
    words = [word for name, value in more.items() for word in ("-o", f"{name}={value}")]
    return {
        "ansible_host": str(lab.spec.address(node)),
        "ansible_user": "root",
        "ansible_ssh_common_args": shlex.join(words),
        "labctl_lab": lab.name,
        "labctl_release": lab.spec.release,
        "labctl_base": lab.spec.base,
        "labctl_components": [component.value for component in node.runs],
        "labctl_addresses": {card.network: str(card.address) for card in node.interfaces if card.address},
    }
