"""Installation media and cloud images: URLs, checksums, and which ones this machine has.

The catalogue is section 3 of docs/facts/releases.md. A file with a wrong checksum is never used.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, paths
from labctl.images import download
from labctl.images.download import Digest
from labctl.progress import step
from labctl.topology.units import show_size

VAULT = "http://vault.centos.org"
CLOUD = "http://cloud.centos.org/centos"
#: Replaces the URL of any site: a mirror with the same layout.
MIRROR_VARIABLE = "LABCTL_MEDIA_MIRROR"


@dataclass(frozen=True)
class Medium:
    """A file of the catalogue."""

    site: str
    path: str
    sha256: str
    #: base and point release that it installs or contains
    base: str
    point_release: str
    installer: bool = True

    @property
    def packages(self) -> bool:
        """True for an ISO with packages; network installers have none."""
        return any(word in self.name.lower() for word in ("minimal", "dvd"))

    @property
    def name(self) -> str:
        """The file name, which identifies it in commands."""
        return self.path.rpartition("/")[2]

    def url(self, mirror: str | None = None) -> str:
        """Its URL, at its own site or at a mirror."""
        site = mirror or os.environ.get(MIRROR_VARIABLE) or self.site
        return f"{site.rstrip('/')}/{self.path}"


#: More than any medium, in bytes.
LARGEST = 32 * 2**30


def _iso(base: str, version: str, name: str, sha256: str) -> Medium:
    return Medium(VAULT, f"{version}/isos/x86_64/{name}", sha256, base, version)


CATALOGUE: tuple[Medium, ...] = (
    _iso(
        "centos7",
        "7.2.1511",
        "CentOS-7-x86_64-Minimal-1511.iso",
        "f90e4d28fa377669b2db16cbcb451fcb9a89d2460e3645993e30e137ac37d284",
    ),
    _iso(
        "centos7",
        "7.3.1611",
        "CentOS-7-x86_64-Minimal-1611.iso",
        "27bd866242ee058b7a5754e83d8ee8403e216b93d130d800852a96f41c34d86a",
    ),
    _iso(
        "centos7",
        "7.9.2009",
        "CentOS-7-x86_64-Minimal-2009.iso",
        "07b94e6b1a0b0260b94c83d6bb76b26bf7a310dc78d7a9c7432809fb9bc6194a",
    ),
    _iso(
        "centos7",
        "7.9.2009",
        "CentOS-7-x86_64-NetInstall-2009.iso",
        "b79079ad71cc3c5ceb3561fff348a1b67ee37f71f4cddfec09480d4589c191d6",
    ),
    _iso(
        "centos8",
        "8.2.2004",
        "CentOS-8.2.2004-x86_64-minimal.iso",
        "47ab14778c823acae2ee6d365d76a9aed3f95bb8d0add23a06536b58bb5293c0",
    ),
    _iso(
        "centos8",
        "8.4.2105",
        "CentOS-8.4.2105-x86_64-boot.iso",
        "c79921e24d472144d8f36a0d5f409b12bd016d9d7d022fd703563973ca9c375c",
    ),
    _iso(
        "centos8",
        "8.4.2105",
        "CentOS-8.4.2105-x86_64-dvd1.iso",
        "0394ecfa994db75efc1413207d2e5ac67af4f6685b3b896e2837c682221fd6b2",
    ),
    _iso(
        "centos8",
        "8.5.2111",
        "CentOS-8.5.2111-x86_64-boot.iso",
        "9602c69c52d93f51295c0199af395ca0edbe35e36506e32b8e749ce6c8f5b60a",
    ),
    _iso(
        "centos8",
        "8.5.2111",
        "CentOS-8.5.2111-x86_64-dvd1.iso",
        "3b795863001461d4f670b0dedd02d25296b6d64683faceb8f2b60c53ac5ebb3e",
    ),
    Medium(
        CLOUD,
        "7/images/CentOS-7-x86_64-GenericCloud-2009.qcow2",
        "e38bab0475cc6d004d2e17015969c659e5a308111851b0e2715e84646035bdd3",
        "centos7",
        "7.9.2009",
        installer=False,
    ),
    Medium(
        CLOUD,
        "7/images/CentOS-7-x86_64-GenericCloud-2009.qcow2c",
        "7ba4513d96591496213a07bbe25e3eb643d61491924c8548a91815b420fd9827",
        "centos7",
        "7.9.2009",
        installer=False,
    ),
    Medium(
        CLOUD,
        "8/x86_64/images/CentOS-8-GenericCloud-8.4.2105-20210603.0.x86_64.qcow2",
        "3510fc7deb3e1939dbf3fe6f65a02ab1efcc763480bc352e4c06eca2e4f7c2a2",
        "centos8",
        "8.4.2105",
        installer=False,
    ),
)


def directory() -> Path:
    """The store's directory for media."""
    return paths.images() / "media"


def get(name: str) -> Medium:
    """Return a medium by its file name.

    :raises LabError: it is not in the catalogue.
    """
    for medium in CATALOGUE:
        if medium.name == name:
            return medium
    raise LabError(f"the catalogue has no '{name}'", "labctl image list")


def installers(base: str, point_release: str) -> tuple[Medium, ...]:
    """The ISOs that install a base at the point release a release needs, preferred first."""
    return tuple(m for m in CATALOGUE if m.installer and (m.base, m.point_release) == (base, point_release))


def path_of(medium: Medium) -> Path:
    """A medium's path in the store, existing or not."""
    return directory() / medium.name


def present(medium: Medium) -> bool:
    """True when the store has it; its checksum was verified when it was added."""
    return path_of(medium).is_file()


def verify(medium: Medium) -> None:
    """Compare a medium of the store with its checksum.

    :raises LabError: it was changed after it was added.
    """
    path = path_of(medium)
    with step("image", f"check {medium.name}"):
        if digest(path) != medium.sha256:
            raise LabError(f"{path} does not match its checksum", f"rm {path}; labctl image fetch {medium.name}")


def missing(base: str, point_release: str) -> str | None:
    """The file that a base needs and the store lacks, with URL and checksum; None when nothing is missing."""
    wanted = installers(base, point_release)
    if any(present(medium) for medium in wanted):
        return None
    first = wanted[0]
    return f"needs {first.name} ({first.url()}, SHA-256 {first.sha256}): labctl image fetch {first.name}"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return Digest("sha256", "").of(path).value


def fetch(medium: Medium, mirror: str | None = None) -> Path:
    """Return a medium, downloading it if missing; an interrupted download resumes.

    :raises LabError: the download failed, or the checksum is wrong (then the file is removed).
    """
    final, url = path_of(medium), medium.url(mirror)
    wanted = Digest("sha256", medium.sha256)

    def bring(partial: Path) -> None:
        with step("image", f"download {medium.name}"):
            download.download(url, partial)

    try:
        download.bring(final, wanted, final.exists, bring, url, "retry, or use another copy: --mirror URL")
    except download.DownloadError as error:
        raise LabError(
            error.message,
            "the same command resumes it; --mirror URL uses another copy; labctl image add FILE adds a local one",
        ) from error
    return final


def add(file: Path) -> Medium:
    """Add a local file to the store, whatever its name.

    :raises LabError: its checksum is not in the catalogue.
    """
    try:
        with files.opened(file) as source, step("image", f"check {file.name}"):
            # a sparse file can be larger than the disk
            found = "" if os.fstat(source.fileno()).st_size > LARGEST else digest(file)
    except OSError as error:
        raise LabError(f"{file} cannot be read: {error.strerror}") from error
    medium = next((m for m in CATALOGUE if m.sha256 == found), None)
    if medium is None:
        same = next((m for m in CATALOGUE if m.name == file.name), None)
        wanted = f", not {same.sha256}" if same else ", which is not in the catalogue"
        has = f"has SHA-256 {found}" if found else f"is larger than {show_size(LARGEST)}"
        raise LabError(f"{file} {has}{wanted}", "labctl image list")
    final = path_of(medium)
    if not final.exists():
        files.make_directories(final.parent)
        with files.opened(file) as source, files.replacing(final) as sink:
            shutil.copyfileobj(source, sink)
            sink.flush()
            if digest(Path(f"/proc/self/fd/{sink.fileno()}")) != medium.sha256:
                raise LabError(f"{file} was changed while it was added", "the same command again")
    return medium


def leftovers() -> tuple[Path, ...]:
    """Incomplete downloads."""
    found = [*directory().glob(".*"), *(paths.images() / "guest").glob(".*.part")]
    return tuple(sorted(p for p in found if p.is_file()))
