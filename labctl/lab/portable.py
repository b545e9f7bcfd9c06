"""Export and import a snapshot as one file with everything another host needs to run its lab.

The file (:mod:`labctl.host.archive`) holds the snapshot's layers, the lab's keys and the golden image's layers; its
header is the lab's record and what the machines' saved memory needs. An imported lab is the same lab: name, id, keys,
addresses and passwords. Whoever has the file can enter the lab.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError, field_validator

from labctl import __version__, drivers
from labctl.errors import LabError, NoSpaceError
from labctl.host import archive, files, paths, qcow2, signature, sparse
from labctl.host.tarball import Member
from labctl.images import store
from labctl.lab import down as teardown
from labctl.lab import snapshot as snaps
from labctl.lab.clone import check_name
from labctl.progress import note, step
from labctl.records import lease
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.topology.model import NAME, Frozen
from labctl.topology.units import show_size

FORMAT = "labctl snapshot 1"
#: In the directory of a lab that is being unpacked.
IMPORTING = "importing"
#: Seconds for writing or unpacking a file.
DEADLINE = 7200
#: An overlay's mark of a removed file, and null, zero, full, random, urandom, tty, console, ptmx.
_DEVICES = {(0, 0), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}
#: In the golden image of virtual machines, which the hypervisor opens on the host.
_MACHINE = ("disk.qcow2", "vmlinuz", "initrd")


class Image(Frozen):
    """A layer of the golden image: its name in the store, and its identity."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*-[0-9a-f]{8,16}$")
    digest: str


class Facts(BaseModel):
    """What a snapshot says of its lab besides its spec; here only to be checked."""

    image: list[str]
    guest: str = Field("", pattern=r"^[^\x00-\x1f\x7f]*$")
    patience: float = 1.0
    capabilities: list[str] = Field(default_factory=list)


class Header(Frozen):
    """The header of an exported snapshot; ``bytes`` is the size of its content on disk."""

    format: str = Field(pattern=f"^{FORMAT}$")
    labctl: str
    name: str = Field(pattern=f"^{NAME}$")
    id: str = Field(pattern=r"^[0-9a-f]+$")
    created: float
    topology_file: str = Field(pattern=r"^[^\x00-\x1f\x7f]*$")
    entry: snaps.Entry
    images: tuple[Image, ...]
    needs: dict[str, str]
    bytes: int = Field(ge=0)

    @field_validator("entry")
    @classmethod
    def _facts(cls, entry: snaps.Entry) -> snaps.Entry:
        Facts.model_validate(entry.facts)
        return entry


def export(lab: Lab, name: str, path: Path) -> int:
    """Write a snapshot of a lab to a file; the caller holds the lab's lock. The lab keeps running.

    :return: the file's size in bytes.
    :raises LabError: there is no such snapshot, it cannot leave this host, or the file cannot be written.
    """
    snapshot = snaps.find(lab, name)
    images = [Path(layer) for layer in snapshot.facts["image"]]
    content = [(lab.directory, f"layers/{number}") for number in snapshot.stack]
    content += [(lab.directory, "keys"), *((image.parent, image.name) for image in images)]
    size = sparse.used(*(directory / inner for directory, inner in content))
    header = Header(
        format=FORMAT,
        labctl=__version__,
        name=name,
        id=lab.id,
        created=lab.meta["created"],
        topology_file=lab.meta["topology_file"],
        entry=snaps.Entry(**{**lab.meta["snapshots"][name], "parent": ""}),
        images=tuple(Image(name=image.name, digest=store.identity(image)) for image in images),
        needs=lab.driver.needs(lab, snapshot.stack[0]),
        bytes=size,
    )
    if not path.parent.is_dir():
        raise LabError(f"there is no directory {path.parent}", f"mkdir -p {path.parent}")

    def tell(done: int) -> None:
        note("lab", f"{show_size(done)} written, of {show_size(size)} before compression")

    with step("lab", f"export {name} to {path}"):
        for image in images:
            store.verify(image)
        archive.write(path, header.model_dump(mode="json"), content, tell, DEADLINE)
    return path.stat().st_size


def read(path: Path, shown: str = "") -> Header:
    """Read the header of an exported snapshot.

    :param shown: what the file is called in messages; default: its path.
    :raises LabError: it is not one, or a labctl with an incompatible format wrote it.
    """
    found = archive.read_header(path, shown)
    try:
        return Header.model_validate(found)
    except ValidationError as error:
        (first, *_) = error.errors()
        where = ".".join(map(str, first["loc"]))
        version = found.get("labctl", "an unknown version") if isinstance(found, dict) else "an unknown version"
        raise LabError(
            f"{shown or path} was exported by labctl {version}, which this one ({__version__}) cannot read: "
            f"{where}: {first['msg']}"
        ) from error


def admit(header: Header, shown: str) -> None:
    """Check what can be known of an exported snapshot before it is read whole; the caller holds the lab's lock.

    What an import of the lab left that was killed is removed.

    :raises LabError: its lab's name is taken, or this host cannot run its machines.
    :raises NoSpaceError: it does not fit.
    """
    name = header.entry.spec.name
    if (paths.labs() / name / IMPORTING).exists() and not exists(name):
        note("lab", f"an earlier import of {name} was cut off; removing what it left")
        teardown.down(name)
    check_name(name)
    drivers.get(header.entry.spec.driver, header.entry.spec.cloud).probe()
    files.make_directories(paths.labs())
    free = shutil.disk_usage(paths.labs()).free
    if header.bytes > free:
        raise NoSpaceError(
            f"{paths.labs()} has {show_size(free)} free; {shown} needs {show_size(header.bytes)}", "labctl gc --images"
        )


@store.keeping()
def import_(
    path: Path,
    header: Header,
    *,
    boot: bool = False,
    signers: Path | None = None,
    shown: str = "",
    checked: bool = False,
) -> Lab:
    """Create a stopped lab from an exported snapshot; the caller holds the lock of the lab's name.

    :param header: the file's header, from :func:`read`.
    :param boot: discard the machines' saved memory; they boot from their disks.
    :param signers: a file of allowed signers, of whom one has to have signed the file.
    :param shown: what the file is called in messages; default: its path.
    :param checked: its checksum was verified as it came.
    :raises LabError: the name is taken, the file is damaged or has a wrong signature, the disk is full, or this host
        cannot run the machines.
    """
    shown = shown or str(path)
    admit(header, shown)
    spec = header.entry.spec
    driver = drivers.get(spec.driver, spec.cloud)
    here = {i.name: found for i in header.images if (found := store.find(i.name, i.digest))}
    for image in here.values():
        store.keep(image)
    directory = paths.labs() / spec.name
    before = archive.version(path)
    with step("lab", f"check {shown}"):
        signed = signature.signer(path, signers, shown)
        note("lab", f"signed by {signed}" if signed else "not signed: nobody says whose it is")
        size = path.stat().st_size
        if not checked:
            archive.check(path, lambda done: note("lab", f"{show_size(done)} of {show_size(size)} read"))
    files.new_directory(directory, 0o700)
    files.write_atomic(directory / IMPORTING, b"")
    try:
        with step("lab", f"unpack {shown}"):
            expected, size = _expected(header), header.bytes
            archive.unpack(path, directory, expected, size, here, lambda: _tell(directory, size), DEADLINE)
            if archive.version(path) != before or read(path) != header:
                raise LabError(f"{shown} was changed while it was imported", "the same command again")
            for disk in directory.glob("*/tree/disk.qcow2"):
                qcow2.check(disk)
            images = [here.get(i.name) or store.take(directory / i.name, i.digest) for i in header.images]
        lab = _record(directory, header, images)
        driver.adopt(lab, {} if boot else header.needs)
        lab.meta["stack"] = [snaps.branch(lab, header.entry.stack), *header.entry.stack]
        lab.save()
    except BaseException:
        files.remove(directory)
        raise
    files.erase(directory / IMPORTING)
    return lab


def _expected(header: Header) -> Callable[[tuple[str, ...], Member], bool]:
    """Which members an export with this header has: links, devices and programs with rights only in machines' trees."""
    stack, images = set(header.entry.stack), {image.name for image in header.images}

    def allowed(parts: tuple[str, ...], member: Member) -> bool:
        match parts:
            case ("keys" | "layers",):
                return member.is_directory
            case ("keys", _):
                return _plain(member)
            case ("keys", *_):
                return False
            case ("layers", number, *_) if number not in stack:
                return False
            case ("layers", _, "shared", _, *_):
                return _in_tree(member)
            case ("layers", _, _, place, _, *_) if place != "disks":
                return _in_tree(member)
            case (image, "tree", name, *_) if image in images and name not in _MACHINE:
                return _in_tree(member)
            case ("layers", _) | (_,):
                return member.is_directory and parts[0] in {"layers", *images}
            case (top, *_):
                return _plain(member) and top in {"layers", *images}
        return False

    return allowed


def _plain(member: Member) -> bool:
    """What labctl itself reads and writes."""
    return (member.is_directory or member.is_file) and not member.gives_rights


def _in_tree(member: Member) -> bool:
    """What the file system of a machine may hold: labctl follows no link in it, and only root enters it."""
    return not member.is_device or member.device in _DEVICES


def _tell(directory: Path, size: int) -> None:
    note("lab", f"{show_size(sparse.used(directory))} of {show_size(size)} unpacked")


def _record(directory: Path, header: Header, images: list[Path]) -> Lab:
    """The lab as it was recorded when the snapshot was taken, with that snapshot alone; not saved yet."""
    entry = header.entry.model_dump(mode="json")
    entry["facts"] = {**entry["facts"], "image": [str(image) for image in images]}
    lasting = {"id": header.id, "created": header.created, "topology_file": header.topology_file}
    own = {**lease.begun(lease.UNSAID), "stack": entry["stack"], "snapshots": {header.name: entry}}
    meta = {**snaps.passing(entry["facts"]), **lasting, **own}
    return Lab(directory, header.entry.spec, meta)
