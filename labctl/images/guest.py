"""The disk image that a lab's servers boot: CirrOS, or a compatible guest built from Debian's packages.

:mod:`labctl.images.guest_parts` assembles the built guest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from labctl.errors import DeadlineError, LabError
from labctl.host import files, process, proxy, threads
from labctl.images import download, guest_parts, initramfs, kernel, packages, store
from labctl.images.download import Digest
from labctl.progress import step, warn

#: Tried in this order. The checksum verifies the file, so plain HTTP is as good where TLS does not work.
CIRROS_SITES = ("https://download.cirros-cloud.net", "http://download.cirros-cloud.net")
#: Checksums of ``cirros-VERSION-x86_64-disk.img``. CirrOS publishes only MD5, so these are what others pinned or saw;
#: docs/facts/releases.md names the sources. No SHA-256 of 0.5.1 was found, but Glance shows its SHA-512.
CIRROS = {
    "0.4.0": Digest("sha256", "a8dd75ecffd4cdd96072d60c2237b448e0c8b2bc94d57f10fdbc8c481d9005b8"),
    "0.5.1": Digest(
        "sha512",
        "553d220ed58cfee7dafe003c446a9f197ab5edf8ffc09396c74187cf83873c87"
        "7e7ae041cb80f3b91489acf687183adcd689b53b38e3ddd22e627e7f98a09c46",
    ),
    "0.5.2": Digest("sha256", "932fcae93574e242dc3d772d5235061747dfe537668443a1f0567d893614b464"),
    "0.6.2": Digest("sha256", "07e44a73e54c94d988028515403c1ed762055e01b83a767edf3c2b387f78ce00"),
    "0.6.3": Digest("sha256", "7d6355852aeb6dbcd191bcda7cd74f1536cfe5cbf8a10495a7283a8396e4b75b"),
}
#: Seconds to wait for a site's response.
CONNECT_SECONDS = 3.0
#: Seconds after which a built guest of another recipe is removed by the next build.
UNUSED = 24 * 3600

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
    """Return the image that a lab's servers boot: CirrOS if its site is reachable, else the built guest.

    An image from an earlier call is reused if its checksum still matches.

    :raises LabError: unknown version, wrong checksum, missing host packages, or a failed package download.
    """
    if found := fetch_cirros(version, directory, timeout=300):
        return found
    with store.building(directory):
        return _built(directory) or build(directory)


def fetch_cirros(
    version: str, directory: Path, timeout: float, *, sites: Sequence[str] = CIRROS_SITES
) -> GuestImage | None:
    """Download CirrOS into the directory, or return None if no site provides it; partial downloads are kept.

    :param timeout: seconds for the whole download; a site that does not answer takes ``CONNECT_SECONDS``.
    :raises LabError: a version without a known checksum, or a file with the wrong checksum (it is removed).
    """
    if version not in CIRROS:
        raise LabError(
            f"CirrOS {version} has no known checksum",
            f"use one of the known versions: {', '.join(sorted(CIRROS))}",
        )
    name, wanted, deadline = f"cirros-{version}-x86_64-disk.img", CIRROS[version], time.monotonic() + timeout
    path = directory / name

    def whole() -> bool:
        return path.is_file() and wanted.of(path) == wanted

    for site in sites:
        url = f"{site}/{version}/{name}"

        def bring(partial: Path, url: str = url) -> None:
            download.download(url, partial, _ask, deadline)

        try:
            download.bring(path, wanted, whole, bring, url)
        except download.DownloadError as error:
            warn("image", error.message)
        else:
            origin = f"CirrOS {version} from {urlsplit(site).netloc}"
            return GuestImage(f"cirros-{version}", path, _digest(path), origin, version)
    return None


def _ask(url: str, headers: Mapping[str, str]) -> requests.Response:
    """Request the file in a thread, since a resolver that does not answer ignores socket timeouts."""
    through = proxy.for_requests()
    asked = threads.started(
        lambda: requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, 10), proxies=through)
    )
    try:
        return threads.result(asked, CONNECT_SECONDS)
    except DeadlineError as error:
        raise download.DownloadError(f"{url}: timed out after {CONNECT_SECONDS:g} s") from error


def recipe_digest() -> str:
    """Return the content address of the built guest's recipe: its files, the code that builds it, the version."""
    digest = hashlib.sha256(BUILDER.encode())
    code = (Path(module.__file__ or "") for module in (guest_parts, initramfs, kernel, packages))
    for path in (*code, *sorted(guest_parts.FILES.rglob("*"))):
        if path.is_file():
            content = path.read_bytes()
            name = path.name if path.suffix == ".py" else path.relative_to(guest_parts.FILES.parent)
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def built_path(directory: Path) -> Path:
    """Where the built guest of this recipe is: another labctl may build another beside it."""
    return directory / f"guest-{recipe_digest()[:16]}.qcow2"


def build(directory: Path) -> GuestImage:
    """Build the guest's disk from Debian's packages, without installing or mounting anything on the host.

    The caller holds the directory's lock if others may build it too.

    :raises LabError: host packages are missing, or Debian's packages cannot be downloaded.
    """
    _check_host()
    files.make_directories(directory)
    work = store.cleared(directory)
    files.new_directory(work)
    try:
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
            process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", work / "disk.raw", disk], timeout=120)
        final = built_path(directory)
        _remove_old(directory)
        files.move(disk, final)
    finally:
        files.remove(work, within=work.parent)
    return record(final)


def _remove_old(directory: Path) -> None:
    """Remove guests of other recipes that were built long ago, also under the name that all once had."""
    for path in directory.glob("guest*.qcow2"):
        if time.time() - path.stat().st_mtime > UNUSED:
            for each in (path, path.with_suffix(".json")):
                files.erase(each)


def record(path: Path) -> GuestImage:
    """Describe a built guest, and record its recipe beside it."""
    image = GuestImage(
        "cirros-guest",
        path,
        _digest(path),
        "CirrOS-compatible guest built from Debian packages (the CirrOS site cannot be reached)",
        VERSION,
    )
    facts = asdict(image) | {"path": path.name, "recipe": recipe_digest()}
    files.write_atomic(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return image


def _built(directory: Path) -> GuestImage | None:
    path = built_path(directory)
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        if facts.pop("recipe") != recipe_digest() or facts["sha256"] != _digest(path):
            return None
        return GuestImage(**{**facts, "path": path})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    return Digest("sha256", "").of(path).value


def _check_host() -> None:
    missing = process.missing(*HOST_PROGRAMS, "apt-get", "dpkg-deb")
    if not guest_parts.MBR_CODE.is_file():
        missing.append(str(guest_parts.MBR_CODE))
    if missing:
        raise LabError(
            f"building the guest image needs {', '.join(missing)}",
            f"apt-get install -y --no-install-recommends {' '.join(HOST_PACKAGES)}",
        )
