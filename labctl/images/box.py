"""Vagrant boxes of labctl's own trees: a bootable disk with Vagrant's user, packed for a provider.

Vagrant's provisioner turns a machine into a lab's node later (see ``vagrant/Vagrantfile``). The format is Vagrant's
(https://developer.hashicorp.com/vagrant/docs/boxes/format) and, for libvirt, that of
https://vagrant-libvirt.github.io/vagrant-libvirt/boxes.html.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files, paths, process, state
from labctl.images import bootable, kernel, ovf, store
from labctl.progress import step
from labctl.topology.model import Frozen

FILES = Path(__file__).with_name("box")
#: Increment when the steps below change the content of a box.
RECIPE_VERSION = 1
PROVIDERS = ("libvirt", "virtualbox")
#: virtio for libvirt, and VirtualBox's IDE controller; its cards are virtio too.
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ata_piix", "sd_mod")
LOADER = bootable.Loader(FILES / "cards.sh", MODULES, ("tr", "ip"))
USER, ID = "vagrant", 1000
GIB = 2**30


@dataclass(frozen=True)
class Box:
    """A box as named in a Vagrantfile. ``checksum`` is a SHA-256; unknown values are empty.

    ``own`` is true for labctl's own boxes, whose machines read their names and addresses from files that Vagrant
    provisions.
    """

    name: str
    version: str = ""
    url: str = ""
    checksum: str = ""
    own: bool = True


def box_name(base: str, release: str) -> str:
    """The name of labctl's own box."""
    return f"labctl/{base}-{release}"


def recipe(layers: tuple[Path, ...], boot: Path, provider: str) -> store.Recipe:
    """What a box is built from: the layers of a golden tree, the kernel image, and the provider."""
    inputs = {
        "version": RECIPE_VERSION,
        "provider": provider,
        "layers": [layer.name for layer in layers],
        "kernel": boot.name,
        "loader": LOADER.inputs(),
        "files": {path.name: path.read_text() for path in sorted(FILES.iterdir())},
    }
    return store.Recipe("box", inputs)


@store.keeping()
def ensure(layers: tuple[Path, ...], provider: str = "libvirt") -> Path:
    """Return the store's box of a golden tree, ``tree/PROVIDER.box``, building it if missing.

    :param layers: the tree's layers, uppermost first.
    :raises LabError: a program is missing, the kernel is unavailable, or the disk is full.
    """
    if provider not in PROVIDERS:
        raise LabError(f"labctl builds no boxes for '{provider}'; supported: {', '.join(PROVIDERS)}")
    if absent := process.missing(*bootable.PROGRAMS):
        raise LabError(
            f"building a box needs {', '.join(absent)}",
            f"apt-get install --no-install-recommends {bootable.PACKAGES}",
        )
    boot = kernel.ensure()
    return store.ensure(
        recipe(layers, boot, provider), lambda work: _build(layers, boot, provider, work), over=(boot, *layers)
    )


def file_of(image: Path) -> Path:
    """The box file in an image that :func:`ensure` returned."""
    return next((image / "tree").glob("*.box"))


def _build(layers: tuple[Path, ...], boot: Path, provider: str, work: Path) -> dict[str, Any]:
    tree = work / "tree"
    files.new_directory(tree)
    raw, facts = bootable.write(work, layers, boot, LOADER, lambda addition: _complete(addition, layers))
    with step("image", f"pack a box for {provider}"):
        parts = _FORMS[provider](raw, work)
        with files.replacing(tree / f"{provider}.box") as sink, tarfile.open(fileobj=sink, mode="w") as box:
            for path in parts:
                box.add(path, path.name, filter=_anonymous)
    for path in (*parts, raw):
        files.erase(path)
    return {**facts, "sha256": _digest(tree / f"{provider}.box")}


def _complete(addition: Path, layers: tuple[Path, ...]) -> None:
    """Add what Vagrant requires in a machine."""
    _account(addition, layers)
    if any((layer / "tree/etc/systemd/system").is_dir() for layer in layers):
        _services(addition)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _libvirt(raw: Path, work: Path) -> list[Path]:
    """metadata.json and box.img: version 1 of vagrant-libvirt's box format."""
    disk = work / "box.img"
    options = ["-c", "-o", "compression_type=zstd", "-W", "-m", "2"]
    process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, disk], timeout=1800)
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": math.ceil(raw.stat().st_size / GIB)}
    return [_write(work / "metadata.json", json.dumps(about) + "\n"), disk]


def _virtualbox(raw: Path, work: Path) -> list[Path]:
    """metadata.json and an OVF appliance: box.ovf and its disk."""
    disk = work / "box-disk001.vmdk"
    options = ["-o", "subformat=streamOptimized"]
    process.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", *options, raw, disk], timeout=1800)
    description = _write(work / "box.ovf", ovf.description("labctl", disk, raw.stat().st_size))
    return [_write(work / "metadata.json", json.dumps({"provider": "virtualbox"}) + "\n"), description, disk]


_FORMS: dict[str, Callable[[Path, Path], list[Path]]] = {"libvirt": _libvirt, "virtualbox": _virtualbox}


def _write(path: Path, text: str) -> Path:
    files.write_atomic(path, text)
    return path


# --- what Vagrant requires in a machine --------------------------------------------------------------


def _account(addition: Path, layers: tuple[Path, ...]) -> None:
    """Vagrant's user with sudo and Vagrant's insecure key, which it replaces at a machine's first start."""
    lines = {
        "passwd": f"{USER}:x:{ID}:{ID}::/home/{USER}:/bin/sh\n",
        "shadow": f"{USER}:*:19000:0:99999:7:::\n",
        "group": f"{USER}:x:{ID}:\n",
    }
    for name, line in lines.items():
        source = next((layer / "tree/etc" / name for layer in layers if (layer / "tree/etc" / name).exists()), None)
        text = source.read_text() if source is not None else ""
        if source is not None and not re.search(rf"^{USER}:", text, re.MULTILINE):
            target, status = addition / "etc" / name, source.stat()
            files.write_atomic(target, text + line, status.st_mode & 0o777, within=addition)
            files.set_owner(target, status.st_uid, status.st_gid, within=addition)
    home = addition / "home" / USER
    files.make_directories(home / ".ssh", 0o700, within=addition)
    keys = home / ".ssh/authorized_keys"
    files.copy(FILES / "authorized_keys.txt", keys, 0o600, within=addition)
    for path in (home, home / ".ssh", keys):
        files.set_owner(path, ID, ID, within=addition)
    files.new_directory(addition / "etc/sudoers.d", 0o750)
    rule = addition / "etc/sudoers.d" / USER
    files.write_atomic(rule, f"{USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440, within=addition)


#: file of FILES -> its path in a machine with systemd, and its mode
PLACES = {
    "labctl-node.sh": ("usr/local/sbin/labctl-node", 0o755),
    "hostkeys.service.txt": ("etc/systemd/system/labctl-hostkeys.service", 0o644),
    "vagrant.network.txt": ("etc/systemd/network/10-vagrant.network", 0o644),
    "sshd.txt": ("etc/ssh/sshd_config.d/10-vagrant.conf", 0o644),
}
ENABLED = {
    "labctl-hostkeys.service": "../labctl-hostkeys.service",
    "systemd-networkd.service": "/lib/systemd/system/systemd-networkd.service",
}


def _services(addition: Path) -> None:
    """An address for Vagrant's card, unique host keys, and the script that makes a machine a node."""
    for name, (place, mode) in PLACES.items():
        target = addition / place
        files.make_directories(target.parent, 0o755, within=addition)
        files.copy(FILES / name, target, mode, within=addition)
    wants = addition / "etc/systemd/system/multi-user.target.wants"
    files.make_directories(wants, 0o755, within=addition)
    for name, unit in ENABLED.items():
        files.link(wants / name, unit, within=addition)


# --- the catalogue -----------------------------------------------------------------------------------


def _catalogue(name: str) -> Path:
    """A box's catalogue with its versions: https://developer.hashicorp.com/vagrant/docs/boxes/format."""
    return paths.home() / "boxes" / f"{name.replace('/', '-')}.json"


def publish(name: str, provider: str, image: Path) -> Box:
    """Add a box to its catalogue, which has the newest version for each provider; return it."""
    facts = store.manifest_of(image)
    made = Box(name, _version(image), _catalogue(name).as_uri(), facts["sha256"])
    entry = _Provider(name=provider, url=file_of(image).as_uri(), checksum_type="sha256", checksum=made.checksum)
    others = [v for v in _versions(name) if not any(p.name == provider for p in v.providers)]
    catalogue = _Catalogue(name=name, versions=(*others, _Version(version=made.version, providers=(entry,))))
    path = _catalogue(name)
    files.make_directories(path.parent)
    files.write_atomic(path, catalogue.model_dump_json(indent=1) + "\n")
    return made


def _version(image: Path) -> str:
    """A version for Vagrant, unique per content: the recipe's version and the image's hash."""
    return f"{RECIPE_VERSION}.0.{int(image.name.rpartition('-')[2][:8], 16)}"


class _Provider(Frozen):
    """A box file of one provider."""

    name: str
    url: str
    checksum_type: str
    checksum: str


class _Version(Frozen):
    """A version and its files."""

    version: str
    providers: tuple[_Provider, ...]


class _Catalogue(Frozen):
    """A box's catalogue, as :func:`publish` writes it."""

    name: str
    versions: tuple[_Version, ...]


def _read(path: Path) -> _Catalogue:
    """The catalogue in a file.

    :raises LabError: it cannot be read, or labctl did not write it.
    """
    found: _Catalogue = state.read(path, _Catalogue, f"rm -r {path}; labctl vagrant box")
    return found


def _versions(name: str) -> tuple[_Version, ...]:
    path = _catalogue(name)
    return _read(path).versions if os.path.lexists(path) else ()


def known(name: str, provider: str = "") -> Box:
    """labctl's own box of a name, with version, URL and checksum if it was built on this machine.

    :param provider: its provider; any when empty.
    """
    for version in _versions(name):
        for entry in version.providers:
            if provider in ("", entry.name):
                return Box(name, version.version, _catalogue(name).as_uri(), entry.checksum)
    return Box(name)


def listing() -> list[dict[str, Any]]:
    """All boxes in the catalogues: name, version, provider, file, checksum."""
    rows = []
    for path in sorted((paths.home() / "boxes").glob("*.json")):
        found = _read(path)
        for version in found.versions:
            for entry in version.providers:
                row = asdict(Box(found.name, version.version, entry.url, entry.checksum))
                rows.append({**row, "provider": entry.name, "state": _state(entry.url.removeprefix("file://"))})
    return rows


def _state(place: str) -> str:
    return "present" if os.path.lexists(place) else "gone"
