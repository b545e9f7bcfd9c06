"""How a compute node runs its guests: under KVM where one has run there, else emulated.

``virt_type: auto`` is decided on each node that has its own kernel, by booting a stock kernel under KVM as on the
host (docs/platform.md: no other test is reliable). The plan specifies emulation, which works everywhere; a node on
which the kernel ran records that, with the processor model it ran with, and ``put_file`` of
labctl/operations/prelude.sh writes nova's files accordingly.
"""

from __future__ import annotations

from labctl.operations.node import Command, File, Operation
from labctl.operations.script import KVM_PROBE
from labctl.services.base import Context
from labctl.topology.model import VirtType

EMULATED: dict[str, str | int | bool] = {"virt_type": "qemu", "cpu_mode": "none"}
SOURCE = "guide: compute node, hardware acceleration; docs/platform.md, /dev/kvm that lies"
PROBE = "/usr/local/lib/labctl/kvm.sh"
#: The boot ID of the node and the probe's result in that boot.
RECORD = "/var/lib/labctl/kvm"
#: A sed script that put_file applies to what it writes.
FACTS = "/var/lib/labctl/facts.sed"
#: Timeout in seconds for a kernel's first line, on a node that is not slower than the host.
SECONDS = 10

_PROVE = """
modprobe -a -q kvm_intel kvm_amd
qemu=$(command -v qemu-system-x86_64 || echo /usr/libexec/qemu-kvm)
said=$(sh {probe} "$qemu" "/boot/vmlinuz-$(uname -r)" $(({seconds} * patience)))
echo "$said"
before=$(cat {facts} 2>/dev/null)
rm -f {facts}
case $said in works*)
    echo 's/^virt_type = qemu$/virt_type = kvm/' >{facts}
esac
case $said in 'works host'*)
    echo 's/^cpu_mode = none$/cpu_mode = host-passthrough/' >>{facts}
esac
[ "$before" = "$(cat {facts} 2>/dev/null)" ] || systemctl stop {unit} 2>/dev/null
echo "$(cat /proc/sys/kernel/random/boot_id) $said" >{record}
"""


def options(ctx: Context) -> dict[str, str | int | bool]:
    """nova's ``[libvirt]`` options for the virt type."""
    return {"virt_type": "kvm"} if ctx.lab.virt_type is VirtType.KVM else EMULATED


def proof(ctx: Context) -> tuple[Operation, ...]:
    """Probe KVM on a node, once per boot, before nova's files are written."""
    if ctx.lab.virt_type is not VirtType.AUTO:
        return ()
    unit = ctx.base.unit("nova-compute")
    return (
        File(PROBE, KVM_PROBE.read_text(), mode="0755", source=SOURCE),
        Command(
            "guests run under KVM, or are emulated",
            _PROVE.format(probe=PROBE, seconds=SECONDS, facts=FACTS, record=RECORD, unit=unit).strip(),
            unless=f'grep -qs "^$(cat /proc/sys/kernel/random/boot_id) " {RECORD}',
            source=SOURCE,
        ),
    )
