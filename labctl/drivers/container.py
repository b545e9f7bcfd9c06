"""What makes a golden tree a container's own: names, keys, and no unit that would act on the host."""

from __future__ import annotations

import os
from pathlib import Path

from labctl.host import files
from labctl.records.lab import Lab

#: Units that would act on the host's devices, clock or kernel.
MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-udev-settle.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-logind.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
)
#: Without logind, whose directory this is, PAM would ask D-Bus for it at each login and su, and log its refusal.
NO_LOGIND = "[Service]\nExecStartPost=-/usr/bin/rmdir /run/systemd/seats\n"


def mark(lab: Lab, node: str) -> str:
    """What a tree keeps of its lab and node."""
    return f"{lab.name} {lab.id} {node}\n"


def seed(lab: Lab, node: str, root: Path) -> None:
    """Make a tree a node's."""

    def put(path: str, text: str, mode: int = 0o644) -> None:
        # a tree that comes from a snapshot or an export may hold links to the host's files
        files.write_atomic(root / path, text, mode, within=root)

    put("etc/hostname", node + "\n")
    put("etc/machine-id", os.urandom(16).hex() + "\n", 0o444)
    put("etc/ssh/ssh_host_ed25519_key", lab.host_private_key(node), 0o600)
    put("etc/ssh/ssh_host_ed25519_key.pub", lab.host_key(node))
    files.make_directories(root / "root/.ssh", 0o700, within=root)
    put("root/.ssh/authorized_keys", lab.public_key(), 0o600)
    for unit in MASKED:
        files.link(root / "etc/systemd/system" / unit, "/dev/null", within=root)
    drop_in = "etc/systemd/system/systemd-tmpfiles-setup.service.d"
    files.make_directories(root / drop_in, 0o755, within=root)
    put(f"{drop_in}/labctl.conf", NO_LOGIND)
    # all nodes and the host share one clock: chrony serves and compares time, but never sets it
    put("etc/default/chrony", 'DAEMON_OPTS="-F 1 -x"\n')
    put("etc/labctl-node", mark(lab, node))
