"""Golden disks installed by an operating system's own installer, each verified by a boot to SSH.

The disk contains no keys: its cloud-init reads a machine's seed, as in a cloud image.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.host import files, paths, process, proxy
from labctl.host.ssh import Session, connect, new_key
from labctl.images import apt, debian, installer, iso, kickstart, kvm, media, store, udebs
from labctl.images.installer import Boot
from labctl.images.kickstart import Answers
from labctl.operations.node import Packages
from labctl.operations.runner import archive
from labctl.progress import note, step
from labctl.releases.model import Placement, Release
from labctl.services import redhat
from labctl.topology.model import VAULT

#: Increment when the steps below change the content of the disk.
RECIPE_VERSION = 1
#: GiB; a machine's own disk may be larger and grows.
DISK = 10
#: Seconds for an installation, with and without hardware virtualisation.
DEADLINE = {True: 3600.0, False: 4 * 3600.0}


def packages(base: Base, release: Release) -> tuple[str, ...]:
    """All packages of all the release's components, and those that turn a disk into a machine."""
    daemons = {
        "placement-api": release.placement is Placement.PACKAGE,
        "nova-placement-api": release.placement is Placement.IN_NOVA,
        "nova-consoleauth": release.consoleauth,
    }
    optional = [p for name, wanted in daemons.items() if wanted for p in base.daemon_packages.get(name, ())]
    own = ("cloud-init", "cloud-utils-growpart")
    return redhat.present_names(release, (*debian.packages(base), *optional, *own))


def program(base: Base, release: Release, vault: str) -> bytes:
    """The last step of an installation: vault repositories, then all packages, as shown by ``labctl plan``."""
    names = packages(base, release)
    items = (*redhat.sources(base, release, vault, names), Packages(names, base.family, base.installer))
    return archive("packages", items, {})


def answers_for(
    base: Base, release: Release, vault: str = VAULT, mirror_url: str | None = None, through: str = ""
) -> tuple[Answers, Path | None]:
    """The installer's answers for a base, and its medium if it needs one.

    :param mirror_url: Debian's, http://…; the machine's own mirror if None.
    :param through: a proxy, which what is installed does not depend on.
    :raises LabError: the store lacks the medium; says which one, with URL and checksum.
    """
    if release.rdo is None or base.redhat is None:
        return kickstart.preseed(base, mirror_url or mirror(), proxy=through), None
    if said := media.missing(base.name, release.rdo.point_release):
        others = [b for b in release.bases if b != base.name]
        hint = f"labctl image add FILE adds it; without it: --base {others[0]}" if others else "labctl image add FILE"
        raise LabError(f"{release.title} on {base.title} {said}", hint)
    medium = next(m for m in media.installers(base.name, release.rdo.point_release) if media.present(m))
    made = kickstart.anaconda(base, release, medium, vault=vault, program=program(base, release, vault), proxy=through)
    return made, media.path_of(medium)


def mirror() -> str:
    """The Debian archive in this machine's apt sources.

    :raises LabError: they name none.
    """
    for line in apt.sources().read_text().splitlines():
        if found := re.match(r"(?:URIs:|deb(?: \[[^]]*\])?)\s+(http://\S+)", line):
            return found[1].rstrip("/")
    raise LabError("the machine's apt sources name no http mirror")


def consoles() -> Path:
    """Directory of the console logs of the last installations."""
    return paths.home() / "installations"


def recipe(base: Base, answers: Answers, medium: Path | None) -> store.Recipe:
    """What a disk is built from: the answers and the installer."""
    source = medium.name if medium else hashlib.sha256((installer.NETBOOT / "initrd.gz").read_bytes()).hexdigest()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in answers.files.items()}
    inputs = {"version": RECIPE_VERSION, "answers": digests, "installer": source, "disk": DISK}
    return store.Recipe(f"installed-{base.name}", inputs)


def ensure(base: Base, release: Release, vault: str = VAULT, mirror_url: str | None = None) -> Path:
    """Return the installed disk of a base, ``tree/disk.qcow2``, installing it if missing.

    :param mirror_url: Debian's, http://…; the machine's own mirror if None.
    :raises LabError: the medium or part of the installer is missing, or the installation failed.
    """
    answers, medium = answers_for(base, release, vault, mirror_url)
    if medium is None and not (installer.NETBOOT / "initrd.gz").is_file():
        raise LabError(f"{installer.NETBOOT}/initrd.gz is missing", f"apt-get install {installer.NETBOOT_PACKAGE}")

    def build(work: Path) -> dict[str, Any]:
        if medium is None:
            with step("image", "check the installer's components on the mirror"):
                udebs.check(mirror_url or mirror(), base.suite)
        else:
            media.verify(media.get(medium.name))
        scratch = work / "scratch"
        files.new_directory(scratch)
        given, _ = answers_for(base, release, vault, mirror_url, proxy.without_password())
        boot = installer.anaconda(medium, given, scratch) if medium else installer.debian(given, scratch)
        return _install(boot, base, work, scratch)

    return store.ensure(recipe(base, answers, medium), build)


def _install(boot: Boot, base: Base, work: Path, scratch: Path) -> dict[str, Any]:
    accelerated = kvm.examine().works
    if not accelerated:
        note("image", "no hardware virtualisation: the installation runs under emulation, many times slower")
    raw = scratch / "disk.qcow2"
    began = time.monotonic()
    console = consoles() / f"{base.name}.log"  # outlives the unfinished image, for failures
    files.make_directories(console.parent)
    installer.install(boot, raw, console, size=DISK, kvm=accelerated, memory=2048, seconds=DEADLINE[accelerated])
    seconds = time.monotonic() - began
    files.copy(console, work / "console.log", 0o644)
    with step("image", "boot the installed disk to SSH"):
        began = time.monotonic()
        said = prove(raw, scratch, kvm=accelerated, seconds=300 if accelerated else 1800)
        booted = time.monotonic() - began
    files.new_directory(work / "tree")
    process.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-c", raw, work / "tree/disk.qcow2"], timeout=1800
    )
    for path in scratch.iterdir():
        files.erase(path)
    files.remove_empty(scratch)
    facts = {"seconds": round(seconds), "boot_seconds": round(booted), "accelerated": accelerated, "system": said}
    note("image", f"{base.title} installed in {seconds:.0f} s, SSH answered {booted:.0f} s after boot")
    return facts


def prove(disk: Path, work: Path, *, kvm: bool, seconds: float) -> str:
    """Boot a disk with its own seed on a temporary overlay, and return the system's name.

    :param seconds: deadline until SSH answers.
    :raises LabError: it does not answer, or was not installed with these answers.
    """
    user, host = new_key("labctl image"), new_key("root@image")
    seed, overlay, console = work / "seed.iso", work / "overlay.qcow2", work / "boot.log"
    files.write_atomic(seed, iso.build("cidata", _seed(user.public, host.private, host.public)))
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay])
    port = _free_port()
    words: list[str | Path] = [installer.QEMU, "-nodefaults", "-display", "none", "-m", "1024", "-smp", "2"]
    words += ["-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max"]
    words += ["-serial", f"file:{console}", "-device", "virtio-rng-pci"]
    words += ["-drive", f"file={installer.option(overlay)},if=virtio,format=qcow2,cache=unsafe"]
    words += ["-drive", f"file={installer.option(seed)},if=virtio,format=raw,readonly=on"]
    words += ["-nic", f"user,model=virtio-net-pci,mac={kickstart.MAC},hostfwd=tcp:127.0.0.1:{port}-:22"]
    with files.appended(work / "boot-qemu.log") as log:
        machine = process.start(words, log=log)
        try:
            with _enter(port, user.private, host.public, seconds, lambda: machine.poll() is None) as session:
                said = session.run("cat /etc/labctl-installed && . /etc/os-release && echo $PRETTY_NAME", timeout=120)
        except LabError as error:
            last = console.read_text(errors="replace").strip().splitlines()[-10:] if console.exists() else []
            raise LabError(f"{error.message}\nlast console lines:\n" + "\n".join(last), error.hint) from error
        finally:
            machine.kill()
            machine.wait()
    if said.status != 0 or kickstart.MARKER not in said.stdout:
        raise LabError(f"the booted system was not installed by labctl: {said.stdout}{said.stderr}")
    return said.stdout.strip().splitlines()[-1]


def _enter(port: int, key: str, host_key: str, seconds: float, alive: Callable[[], bool]) -> Session:
    """Connect to the machine's forwarded port; QEMU accepts connections before its guest listens."""
    until = time.monotonic() + seconds
    while True:
        try:
            return connect(
                lambda timeout: socket.create_connection(("127.0.0.1", port), timeout),
                "the installed system",
                "root",
                key,
                host_key,
                timeout=5,  # per attempt
            )
        except LabError:
            if not alive():
                raise LabError("the machine stopped before SSH answered") from None
            if time.monotonic() > until:
                raise


def _seed(key: str, host_private: str, host_public: str) -> dict[str, bytes]:
    wanted = {
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_private, "ed25519_public": host_public},
        "users": [{"name": "root", "ssh_authorized_keys": [key]}],
    }
    return {
        "meta-data": b'{"instance-id": "labctl-image", "local-hostname": "image"}\n',
        "user-data": f"#cloud-config\n{json.dumps(wanted)}\n".encode(),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
