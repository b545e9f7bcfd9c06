"""The disk image that servers of a lab boot: CirrOS, or a compatible guest built from Debian's packages.

What the built guest consists of, and how, is :mod:`labctl.images.guest_parts`.
"""

from __future__ import annotations

import hashlib
import json
import queue
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from labctl import process
from labctl.errors import LabError
from labctl.images import guest_parts, initramfs, kernel, packages
from labctl.progress import step, warn

CIRROS_SITE = "http://download.cirros-cloud.net"
# MD5 as published in the site's MD5SUMS files and quoted by the install guides.
CIRROS_MD5 = {
    "0.4.0": "443b7623e27ecf03dc9e01ee93f67afe",
    "0.5.1": "1d3062cd89af34e419f7100277f38b2b",
    "0.6.2": "c8fc807773e5354afe61636071771906",
}
CONNECT_SECONDS = 3.0

BUILDER = "1"
VERSION = f"labctl-{BUILDER}"
HOST_PACKAGES: tuple[str, ...] = ("mtools", "syslinux", "syslinux-common", "qemu-utils", "e2fsprogs", "cpio")
HOST_PROGRAMS = ("mformat", "mcopy", "syslinux", "qemu-img", "mke2fs", "debugfs", "cpio")


@dataclass(frozen=True)
class GuestImage:
    """A qcow2 disk for glance. ``origin`` is a sentence for the output; ``sha256`` is of the file."""

    name: str
    path: Path
    sha256: str
    origin: str
    version: str


def ensure(directory: Path, version: str = "0.5.1") -> GuestImage:
    """Return the image a lab's servers boot: CirrOS where its site can be reached, else the built guest.

    What an earlier call left in the directory is used again if it is still what it was.

    :raises LabError: unknown version, wrong checksum, missing host packages, or packages that cannot be had.
    """
    return fetch_cirros(version, directory, timeout=300) or _built(directory) or build(directory)


def fetch_cirros(version: str, directory: Path, timeout: float, *, base: str = CIRROS_SITE) -> GuestImage | None:
    """Download CirrOS into the directory, or return None when the site cannot be reached.

    :param timeout: seconds for the whole download; a site that does not answer costs ``CONNECT_SECONDS``.
    :raises LabError: a version without a known checksum, or a file with another checksum (it is removed).
    """
    if version not in CIRROS_MD5:
        raise LabError(
            f"CirrOS {version} has no known checksum",
            f"use one of the known versions: {', '.join(sorted(CIRROS_MD5))}",
        )
    name = f"cirros-{version}-x86_64-disk.img"
    path = directory / name
    if not (path.is_file() and _digest(path, "md5") == CIRROS_MD5[version]):
        url = f"{base}/{version}/{name}"
        response = _connect(url)
        if response is None:
            return None
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / f".{name}.part"
        try:
            with step("image", f"download CirrOS {version}"), response:
                if not _receive(response, partial, timeout):
                    return None
            found = _digest(partial, "md5")
            if found != CIRROS_MD5[version]:
                raise LabError(
                    f"{url} has MD5 {found}, not {CIRROS_MD5[version]}; the file was removed",
                    "try again; if it stays so, something between here and the site changes downloads",
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    origin = f"CirrOS {version} from {base.removeprefix('http://')}"
    return GuestImage(f"cirros-{version}", path, _digest(path, "sha256"), origin, version)


def _connect(url: str) -> requests.Response | None:
    """Ask for the file in a thread: a silent resolver would hold us longer than a socket time-out does."""
    answer: queue.Queue[requests.Response | str] = queue.Queue()

    def ask() -> None:
        try:
            response = requests.get(url, stream=True, timeout=(CONNECT_SECONDS, 10))
            answer.put(response if response.ok else f"{url} answers {response.status_code} {response.reason}")
        except requests.RequestException as error:
            answer.put(f"{url} cannot be reached ({type(error).__name__})")

    threading.Thread(target=ask, daemon=True).start()
    try:
        got = answer.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        got = f"{url} does not answer within {CONNECT_SECONDS:g} s"
    if isinstance(got, str):
        warn("image", got)
        return None
    return got


def _receive(response: requests.Response, path: Path, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    try:
        with path.open("wb") as sink:
            for chunk in response.iter_content(guest_parts.MIB):
                sink.write(chunk)
                if time.monotonic() > deadline:
                    warn("image", f"{response.url}: not complete after {timeout:g} s")
                    return False
    except requests.RequestException as error:
        warn("image", f"{response.url}: the download broke off ({type(error).__name__})")
        return False
    return True


def recipe_digest() -> str:
    """Return the content address of the built guest's recipe: its files, what builds them, the version."""
    digest = hashlib.sha256(BUILDER.encode())
    code = (Path(module.__file__ or "") for module in (guest_parts, initramfs, kernel, packages))
    for path in (*code, *sorted(guest_parts.FILES.rglob("*"))):
        if path.is_file():
            content = path.read_bytes()
            name = path.name if path.suffix == ".py" else path.relative_to(guest_parts.FILES.parent)
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def build(directory: Path) -> GuestImage:
    """Build ``guest.qcow2`` from Debian's packages; nothing is installed on the host, nothing is mounted.

    :raises LabError: host packages are missing, or Debian's packages cannot be downloaded.
    """
    _check_host()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".guest-", dir=directory) as name:
        work = Path(name)
        tree, root, disk = work / "packages", work / "root", work / "guest.qcow2"
        with step("image", "download the guest's packages"):
            packages.unpack(guest_parts.download(work / "debs"), tree)
        with step("image", "assemble the guest"):
            release, vmlinuz = kernel.find(tree)
            modules = kernel.Modules(tree, release)
            guest_parts.assemble_root(root, tree, modules, VERSION)
            initrd = guest_parts.initrd(work / "initramfs", tree, modules)
        with step("image", "write the guest's disk"):
            boot = guest_parts.boot_partition(work / "boot.img", vmlinuz, initrd)
            guest_parts.write_disk(work / "disk.raw", boot, guest_parts.root_partition(work / "root.img", root))
            process.run(["qemu-img", "convert", "-c", "-O", "qcow2", work / "disk.raw", disk], timeout=120)
        final = directory / "guest.qcow2"
        disk.replace(final)
    return record(final)


def record(path: Path) -> GuestImage:
    """Describe a built guest, and write beside it of which recipe it is."""
    image = GuestImage(
        "cirros-guest",
        path,
        _digest(path, "sha256"),
        "CirrOS-compatible guest built from Debian packages (the CirrOS site cannot be reached)",
        VERSION,
    )
    facts = asdict(image) | {"path": path.name, "recipe": recipe_digest()}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    return image


def _built(directory: Path) -> GuestImage | None:
    path = directory / "guest.qcow2"
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        if facts.pop("recipe") != recipe_digest() or facts["sha256"] != _digest(path, "sha256"):
            return None
        return GuestImage(**{**facts, "path": path})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, algorithm).hexdigest()


def _check_host() -> None:
    missing = process.missing(*HOST_PROGRAMS, "apt-get", "dpkg-deb")
    if not guest_parts.MBR_CODE.is_file():
        missing.append(str(guest_parts.MBR_CODE))
    if missing:
        raise LabError(
            f"building the guest image needs {', '.join(missing)}",
            f"apt-get install -y --no-install-recommends {' '.join(HOST_PACKAGES)}",
        )
