"""Answers for unattended installers: kickstart files for Anaconda, a preseed file for Debian's installer.

The templates are in ``kickstart/``. Rendering is deterministic, so an image built with the result has a content
address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import jinja2

from labctl import shipped
from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.images import media
from labctl.releases.model import Release

TEMPLATES = shipped("kickstart")
#: Anaconda looks for this label by default.
LABEL = "OEMDRV"
#: The last line of a successful installation, on its console and in /etc/labctl-installed.
MARKER = "labctl: installation complete"
#: MAC address of the machine that builds an image.
MAC = "52:54:00:00:00:02"
HOST = "localhost.localdomain"
#: Packages that every installed system needs to become a node: cloud-init reads the node's seed.
DEBIAN_PACKAGES = ("openssh-server", "python3", "cloud-init", "cloud-guest-utils")


@dataclass(frozen=True)
class Answers:
    """Files for an installer; ``name`` is the one it reads first."""

    name: str
    files: Mapping[str, bytes]

    @property
    def text(self) -> str:
        """The file with the answers."""
        return self.files[self.name].decode()


def _environment() -> jinja2.Environment:
    if not TEMPLATES.is_dir():
        raise LabError(f"{TEMPLATES} is missing: labctl is installed without templates", "pip install -e PROJECT")
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _render(template: str, **values: object) -> bytes:
    return _environment().get_template(template).render(label=LABEL, marker=MARKER, **values).encode()


def anaconda(
    base: Base,
    release: Release,
    medium: media.Medium,
    *,
    vault: str,
    key: str = "",
    program: bytes = b"",
    timezone: str = "UTC",
    proxy: str = "",
) -> Answers:
    """``ks.cfg`` for a base of the Red Hat family.

    :param vault: source of packages if the medium has none (network installation).
    :param key: a public key for root, for access before the image has a seed.
    :param program: archive with ``program.sh``, run in the new system: repositories and packages.
    :param proxy: of all downloads; empty: none.
    :raises LabError: RDO did not build the release for this base.
    """
    rdo = release.rdo
    if rdo is None or base.redhat is None:
        raise LabError(f"RDO has no packages of {release.title} for {base.title}", "labctl releases")
    os_tree = next(iter(base.redhat.repositories.values()))
    source = "cdrom" if medium.packages else f"url --url={vault.rstrip('/')}/{medium.point_release}/{os_tree}/"
    source += f" --proxy={proxy}" if proxy and not medium.packages else ""
    text = _render(
        f"{base.name}.ks.j2",
        title=f"{base.title} for {release.title}",
        source=source,
        timezone=timezone,
        selinux=rdo.selinux,
        unwanted=[unit.removesuffix(".service") for unit in base.unwanted_units],
        mac=MAC,
        hostname=HOST,
        key=key.strip(),
        proxy=proxy,
    )
    files = {"ks.cfg": text}
    if program:
        files["program.tar"] = program
    return Answers("ks.cfg", files)


def preseed(base: Base, mirror: str, *, key: str = "", timezone: str = "UTC", proxy: str = "") -> Answers:
    """``preseed.cfg`` for a Debian base.

    :param mirror: URL of the Debian archive to install from.
    :raises LabError: the mirror's URL is not plain HTTP.
    """
    parts = urlsplit(mirror)
    if parts.scheme != "http" or not parts.netloc:
        raise LabError(f"labctl's preseed for Debian needs an http mirror, not {parts.scheme or mirror!r}")
    text = _render(
        f"{base.name}.preseed.j2",
        title=base.title,
        suite=base.suite,
        mirror={"hostname": parts.netloc, "directory": parts.path or "/"},
        timezone=timezone,
        hostname=HOST.partition(".")[0],
        packages=DEBIAN_PACKAGES,
        key=key.strip(),
        proxy=proxy,
    )
    return Answers("preseed.cfg", {"preseed.cfg": text})
