"""Unattended installation of an operating system by its own installer, in a virtual machine.

The installer's kernel and initrd are booted directly, with a disk of answers. Its serial console shows whether it
finished or failed.
"""

from __future__ import annotations

import gzip
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import DeadlineError, LabError
from labctl.host import files, process
from labctl.images import iso
from labctl.images.kickstart import LABEL, MAC, MARKER, Answers
from labctl.progress import every, note, step

QEMU = "qemu-system-x86_64"
#: Debian's own package of its network installer (debian-installer-12-netboot-amd64).
NETBOOT = Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
NETBOOT_PACKAGE = "debian-installer-12-netboot-amd64"
#: Console lines that mean a failed or stuck installation: pattern -> cause.
FAILURES: tuple[tuple[str, str], ...] = (
    (r"Kernel panic - not syncing", "the installer's kernel panicked"),
    (r"dracut-initqueue timeout", "the installer does not find its second stage (inst.stage2)"),
    (r"Entering emergency mode|dracut:/#", "the installer's first stage failed"),
    (r"Pane is dead", "Anaconda crashed"),
    (r"An unknown error has occurred", "Anaconda crashed"),
    (r"Traceback \(most recent call last\)", "Anaconda crashed"),
    (r"The following problem occurred on line \d+ of the kickstart file", "the kickstart has an error"),
    (r"Error setting up (base repository|software source)", "the installation source cannot be read"),
    (r"The installation (cannot continue|was stopped)", "Anaconda stopped"),
    (r"There was an error running the kickstart script", "a %post script failed"),
    (r"(Not enough|There is not enough) (free )?space", "the disk is too small"),
    (r"\[!!\] ", "the installer asks a question"),
    (r"Installation step failed", "an installation step failed"),
    (r"Prompt: '\?' for help", "the installer asks a question"),
)
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])|\r|\x0f|\x0e")


@dataclass(frozen=True)
class Boot:
    """How to boot the installer: files, and the kernel's command line."""

    kernel: Path
    initrd: Path
    arguments: str
    #: images for its CD-ROM drives, the installer's own first
    discs: tuple[Path, ...]


def anaconda(medium: Path, answers: Answers, work: Path) -> Boot:
    """Boot files from an installation ISO, and the disk of answers, which Anaconda finds by its label.

    :raises LabError: the medium is not an installer's ISO.
    """
    kernel, initrd, disc = work / "vmlinuz", work / "initrd.img", work / "answers.iso"
    with iso.Reader(medium) as image:
        image.extract("/images/pxeboot/vmlinuz", kernel)
        image.extract("/images/pxeboot/initrd.img", initrd)
        label = iso.escape(image.label)
    files.write_atomic(disc, iso.build(LABEL, answers.files))
    arguments = (
        f"inst.stage2=hd:LABEL={label} inst.ks=hd:LABEL={LABEL}:/{answers.name} "
        "inst.text inst.sshd=0 console=ttyS0,115200n8 net.ifnames=0 biosdevname=0 no_timer_check"
    )
    return Boot(kernel, initrd, arguments, (medium, disc))


def debian(answers: Answers, work: Path, netboot: Path = NETBOOT) -> Boot:
    """Boot files from Debian's package; its initrd has no CD-ROM driver, so it also contains the answers.

    :raises LabError: the package is not installed.
    """
    if not (netboot / "linux").is_file():
        raise LabError(f"{netboot}/linux is missing", f"apt-get install {NETBOOT_PACKAGE}")
    kernel, initrd, disc = work / "vmlinuz", work / "initrd.img", work / "answers.iso"
    files.copy(netboot / "linux", kernel, 0o644)
    # the kernel unpacks concatenated archives into one root
    files.write_atomic(initrd, (netboot / "initrd.gz").read_bytes() + gzip.compress(_cpio(answers.files), mtime=0))
    files.write_atomic(disc, iso.build(LABEL, answers.files))
    # otherwise netcfg waits for minutes for a router advertisement, and the kernel takes the timer of an emulated
    # machine on a busy host for broken
    arguments = (
        "auto=true priority=critical DEBIAN_FRONTEND=text ipv6.disable=1 console=ttyS0,115200n8 net.ifnames=0 "
        "no_timer_check --- console=ttyS0,115200n8 net.ifnames=0"
    )
    return Boot(kernel, initrd, arguments, (disc,))


def _cpio(files: Mapping[str, bytes]) -> bytes:
    """A "newc" archive of files in the root directory (Linux: driver-api/early-userspace/buffer-format)."""
    made = bytearray()
    for number, (name, content) in enumerate([*sorted(files.items()), ("TRAILER!!!", b"")], start=1):
        mode = 0o100600 if name != "TRAILER!!!" else 0
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += b"\0" * (-len(made) % 4) + content
        made += b"\0" * (-len(made) % 4)
    return bytes(made)


def failure(line: str) -> str | None:
    """The cause of a failed installation according to a console line, or None."""
    return next((what for pattern, what in FAILURES if re.search(pattern, line)), None)


class Console:
    """The serial console of an installation, read incrementally."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = ""
        self.last: deque[str] = deque(maxlen=30)
        self.finished = False

    def look(self) -> str | None:
        """Read new output; returns the failure, if any."""
        with self._path.open("rb") as source:
            source.seek(self._read)
            fresh = source.read()
        self._read += len(fresh)
        *lines, self._rest = (self._rest + fresh.decode(errors="replace")).replace("\r", "\n").split("\n")
        for raw in lines:
            line = _ESCAPES.sub("", raw).strip()
            if not line:
                continue
            self.last.append(line)
            self.finished = self.finished or MARKER in line
            if not self.finished and (what := failure(line)):
                return what
        # a question does not end in a newline
        return None if self.finished else failure(_ESCAPES.sub("", self._rest))


def option(path: Path) -> str:
    """A file's name in an option of QEMU, in which a comma begins the next one."""
    return str(path).replace(",", ",,")


def command(boot: Boot, disk: Path, console: Path, *, memory: int, cpus: int, kvm: bool) -> Sequence[str | Path]:
    """QEMU's command line; QEMU exits when the installer restarts the machine.

    :param memory: MiB.
    """
    words: list[str | Path] = [QEMU, "-nodefaults", "-no-reboot", "-display", "none", "-m", str(memory)]
    words += ["-smp", str(cpus), "-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max"]
    words += ["-kernel", boot.kernel, "-initrd", boot.initrd, "-append", boot.arguments]
    words += ["-serial", f"file:{console}", "-device", "virtio-rng-pci"]
    words += ["-drive", f"file={option(disk)},if=virtio,format=qcow2,cache=unsafe,discard=unmap"]
    for number, disc in enumerate(boot.discs):
        words += ["-drive", f"file={option(disc)},if=none,id=cd{number},media=cdrom,readonly=on,format=raw"]
        words += ["-device", f"ide-cd,drive=cd{number},bus=ide.{number}"]
    words += ["-nic", f"user,ipv6=off,model=virtio-net-pci,mac={MAC}"]
    return words


def install(
    boot: Boot,
    disk: Path,
    console: Path,
    *,
    size: int,
    memory: int = 2048,
    cpus: int = 2,
    kvm: bool = False,
    seconds: float = 3600,
) -> None:
    """Install to a new disk; returns when the machine has shut down after the marker.

    :param size: disk size in GiB.
    :param seconds: deadline; under software emulation an installation takes many times longer.
    :raises LabError: the installer failed; shows its last output.
    :raises DeadlineError: it timed out.
    """
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, f"{size}G"])
    files.write_atomic(console, b"")
    log = console.with_name(f"{console.stem}-qemu.log")
    files.erase(log, within=log.parent)
    seen = Console(console)
    began, due = time.monotonic(), every(30)
    with step("image", "install"), files.appended(log) as sink:
        machine = process.start(command(boot, disk, console, memory=memory, cpus=cpus, kvm=kvm), log=sink)
        try:
            while machine.poll() is None:
                if what := seen.look():
                    raise LabError(f"{what}; last console lines:\n{_shown(seen)}", f"less -R {console}")
                if time.monotonic() - began > seconds:
                    raise DeadlineError(
                        f"the installation timed out after {seconds:g} s; last console lines:\n{_shown(seen)}"
                    )
                if seen.last and due():
                    note("image", f"installer: {seen.last[-1][:100]}")
                time.sleep(0.5)
            if what := seen.look():
                raise LabError(f"{what}; last console lines:\n{_shown(seen)}", f"less -R {console}")
        finally:
            if machine.poll() is None:
                machine.kill()
            machine.wait()
    if machine.returncode != 0:
        raise LabError(f"QEMU failed with status {machine.returncode}: {log.read_text(errors='replace').strip()}")
    if not seen.finished:
        raise LabError(f"the machine restarted before the installation finished; last console lines:\n{_shown(seen)}")


def _shown(console: Console) -> str:
    return "\n".join(f"  {line}" for line in console.last)
