"""How a compute node's guests are run: under KVM where one has run there, else emulated.

``virt_type: auto`` is decided on each node that owns its kernel, by booting a stock kernel under KVM as on the host
(docs/platform.md: nothing else tells). The plan says emulation, which works everywhere; a node on which the kernel
ran notes that, with the processor model under which it ran, and ``put_file`` of labctl/operations/prelude.sh writes
nova's files accordingly.
"""

from __future__ import annotations

from labctl.operations.node import Command, File, Operation
from labctl.operations.script import KVM_PROBE
from labctl.services.base import Context
from labctl.topology.model import VirtType

EMULATED: dict[str, str | int | bool] = {"virt_type": "qemu", "cpu_mode": "none"}
SOURCE = "guide: compute node, hardware acceleration; docs/platform.md, /dev/kvm that lies"
PROBE = "/usr/local/lib/labctl/kvm.sh"
#: What the probe said on the node, after the id of the boot in which it said so.
RECORD = "/var/lib/labctl/kvm"
#: A sed script that put_file applies to what it writes.
FACTS = "/var/lib/labctl/facts.sed"
#: Seconds for the first line of a kernel, on a node that is not slower than the host.
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
    """nova's ``[libvirt]`` options for it."""
    return {"virt_type": "kvm"} if ctx.lab.virt_type is VirtType.KVM else EMULATED


def proof(ctx: Context) -> tuple[Operation, ...]:
    """Find out on a node, once a boot; before nova's files are written."""
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
