"""A forged export is refused before anything of it is unpacked, and the host's files stay as they were."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import SMALL, specify, write

from labctl import drivers
from labctl.commands import snapshot as command
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import archive, paths, signature
from labctl.lab import portable
from labctl.records.lab import Lab

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes, target: str = "", content: bytes = b"", device: int = 0) -> Member:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, target, len(content), 0o755
    made.devmajor = made.devminor = device
    return made, content


def directory(name: str) -> Member:
    return member(name, tarfile.DIRTYPE)


def link(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, target)


def regular(name: str, content: bytes = b"forged") -> Member:
    return member(name, tarfile.REGTYPE, content=content)


def with_mode(made: Member, mode: int) -> Member:
    made[0].mode = mode
    return made


def with_header(made: Member, key: str, value: str) -> Member:
    made[0].pax_headers = {key: value}
    return made


def long_name(name: str) -> Member:
    return member("././@LongLink", tarfile.GNUTYPE_LONGNAME, content=name.encode() + b"\0")


def sparse(*lines: int, data: bytes = b"", size: int | None = None) -> Member:
    """A sparse file whose content begins with this map."""
    map_ = "".join(f"{line}\n" for line in lines).encode()
    made, content = regular("./layers/1/first/disk", map_.ljust(-(-len(map_) // 512) * 512, b"\0") + data)
    keys = {"major": "1", "minor": "0", "name": made.name, "realsize": "1048576"}
    made.pax_headers = {f"GNU.sparse.{key}": value for key, value in keys.items()}
    return made, content


COMMON = [directory("./layers"), directory("./layers/1"), directory("./layers/1/first"), directory("./keys")]


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("precious")
    return tmp_path / "victim"


Forge = Callable[..., Path]


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    spec = json.loads(specify(write(tmp_path, SMALL)).model_dump_json())

    def made(
        *members: Member,
        edit: Callable[[Any], object] = lambda spec: None,
        size: int = 1,
        images: Sequence[Mapping[str, str]] = (),
        change: Callable[[bytes], bytes] = bytes,
    ) -> Path:
        edit(spec)
        entry = {"created": 1.0, "stack": ["1"], "parent": "", "stage": "", "spec": spec, "facts": {"image": []}}
        header = {"format": portable.FORMAT, "labctl": "0.1.0", "name": "s", "id": "abcd", "created": 1.0}
        header |= {"topology_file": "x", "entry": entry, "images": images, "needs": {}, "bytes": size}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as stream:
            for info, content in [*COMMON, *members]:
                stream.addfile(info, io.BytesIO(content))
        content = change(packed.getvalue())
        body = subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout
        body = archive._frame(header) + body
        path = tmp_path / "forged.tar.zst"
        path.write_bytes(body + archive._trailer(hashlib.sha256(body).hexdigest()))
        return path

    return made


def refused(path: Path, victim: Path, why: str) -> None:
    with pytest.raises(LabError, match=why):
        portable.import_(path, portable.read(path))
    assert [p.name for p in victim.iterdir()] == ["file"]
    assert (victim / "file").read_text() == "precious"
    assert not paths.labs().exists() or list(paths.labs().iterdir()) == []


FORGED: dict[str, Callable[[Path], list[Member]]] = {
    "overwrite": lambda v: [link("./.lab.json.new", str(v / "file"))],
    "record": lambda v: [regular("./lab.json")],
    "read": lambda v: [link("./layers/1/secrets.json", str(v / "file"))],
    "read a disk": lambda v: [link("./layers/1/first/root.qcow2", str(v / "file"))],
    "read an additional disk": lambda v: [
        directory("./layers/1/first/disks"),
        link("./layers/1/first/disks/data", str(v / "file")),
    ],
    "read a key": lambda v: [link("./keys/id_ed25519", str(v / "file"))],
    "shared": lambda v: [link("./layers/1/shared", str(v))],
    "layer": lambda v: [link("./layers/2", str(v))],
    "device": lambda v: [member("./layers/1/mem", tarfile.CHRTYPE, device=1)],
    "set-user-id": lambda v: [with_mode(regular("./layers/1/su"), 0o4755)],
    "set-group-id": lambda v: [with_mode(regular("./keys/su"), 0o2755)],
    "capabilities": lambda v: [with_header(regular("./keys/x"), "SCHILY.xattr.security.capability", "x")],
    "block device": lambda v: [directory("./layers/1/first/root"), member("./layers/1/first/root/a", tarfile.BLKTYPE)],
    "another name in its sparse header": lambda v: [
        with_header(regular("./layers/1/first/x"), "GNU.sparse.name", "./lab.json")
    ],
    "a name of the old kind": lambda v: [(tarfile.TarInfo("./" + "x" * 20), b""), long_name("./lab.json")],
    "a name behind a null byte": lambda v: [with_header(regular("./layers/1/x"), "path", "./lab.json\0/layers")],
    "device in a tree": lambda v: [
        directory("./layers/1/first/root"),
        member("./layers/1/first/root/mem", tarfile.CHRTYPE, device=1),
    ],
    "dotdot": lambda v: [regular("./../../escaped")],
    "absolute": lambda v: [regular(str(v / "escaped"))],
    "below a link": lambda v: [
        directory("./layers/1/first/root"),
        link("./layers/1/first/root/out", str(v)),
        regular("./layers/1/first/root/out/escaped"),
    ],
    "hard link": lambda v: [
        directory("./layers/1/first/root"),
        member("./layers/1/first/root/twin", tarfile.LNKTYPE, str(v / "file")),
    ],
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_member_that_no_export_has_is_refused(kind: str, forge: Forge, victim: Path) -> None:
    refused(forge(*FORGED[kind](victim)), victim, "was not written by labctl snapshot export: its member")


@pytest.mark.parametrize(
    "lines",
    [(3, 0, 512), (2, 0, 100, 512, 412), (1, 0, 1024), (10**14,), (1, 0, 0)],
    ids=["more regions than it has", "a region between two blocks", "more content", "no end", "less content"],
)
def test_a_sparse_file_whose_content_would_be_the_next_member_is_refused(
    lines: tuple[int, ...], forge: Forge, victim: Path
) -> None:
    refused(forge(sparse(*lines, data=bytes(512))), victim, "its member .* has a sparse map")


def test_a_sum_that_tar_reads_otherwise_is_refused(forge: Forge, victim: Path) -> None:
    """Tar skips a member with a wrong sum and looks for the next header in its content."""
    inner = tarfile.TarInfo("./lab.json").tobuf(tarfile.USTAR_FORMAT)

    def another(content: bytes) -> bytes:
        at = content.index(b"./keys/x") + 148
        return content[:at] + b"000001\0 " + content[at + 8 :]

    refused(forge(regular("./keys/x", inner), change=another), victim, "its member './keys/x' has a header that tar")


def test_more_than_the_header_claims_is_refused(forge: Forge, victim: Path) -> None:
    refused(forge(regular("./layers/1/zeros", bytes(80 * 2**20))), victim, "exceeds the 1 bytes")


def test_unpacking_leaves_room_on_the_file_system(forge: Forge, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its header claims, and whatever else is writing meanwhile."""
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: SimpleNamespace(free=200 * 2**20))
    refused(forge(regular("./keys/x")), victim, "no space left on the file system of")


def test_a_tree_keeps_its_links_whiteouts_and_programs_with_rights(forge: Forge, tmp_path: Path) -> None:
    tree = "./layers/1/first/upper"
    sudo = regular(f"{tree}/sudo")
    sudo[0].mode = 0o4755
    whiteout = member(f"{tree}/gone", tarfile.CHRTYPE)
    twin = member(f"{tree}/twin", tarfile.LNKTYPE, f"{tree}/sudo")
    header = portable.read(path := forge(directory(tree), link(f"{tree}/bin", "/usr/bin"), whiteout, sudo, twin))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    archive.unpack(path, unpacked, portable._expected(header), header.bytes, (), lambda: None, 60)
    found = unpacked / tree
    assert (found / "bin").readlink() == Path("/usr/bin")
    assert stat.S_IMODE((found / "sudo").stat().st_mode) == 0o4755
    assert (found / "twin").samefile(found / "sudo")
    assert stat.S_ISCHR((found / "gone").stat().st_mode)


def _node(spec: Any) -> None:
    spec["nodes"]["../../victim"] = {**spec["nodes"].pop("second"), "name": "../../victim"}


def _key(spec: Any) -> None:
    spec["nodes"]["../../victim"] = spec["nodes"].pop("second")


def _interface(spec: Any) -> None:
    spec["nodes"]["first"]["interfaces"][0]["name"] = "eth0\nlink add evil type dummy"


def _disk(spec: Any) -> None:
    spec["nodes"]["first"]["disks"] = [{"name": "../../x", "size": 1}]


@pytest.mark.parametrize("edit", [_node, _key, _interface, _disk])
def test_a_name_that_no_topology_may_have_is_refused(edit: Callable[[Any], None], forge: Forge, victim: Path) -> None:
    refused(forge(edit=edit), victim, r"cannot read: entry\.spec")


def test_a_name_is_checked_before_it_is_locked(forge: Forge, tmp_path: Path) -> None:
    outside = tmp_path / "outside/evil"
    path = forge(edit=lambda spec: spec.update(name=os.path.relpath(outside, paths.home() / "locks")))
    with pytest.raises(LabError):
        command.import_(str(path))
    assert not outside.parent.exists()


@pytest.mark.parametrize("kind", ["a directory", "a FIFO", "a device"])
def test_what_is_no_file_ends_at_once(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "a device" else tmp_path / "export"
    if kind == "a directory":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    with pytest.raises(LabError, match=f"it is {kind}"):
        portable.read(path)


def test_a_wrong_signature_is_refused_before_anything_is_unpacked(forge: Forge, victim: Path) -> None:
    path = forge()
    signature.of(path).write_text("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n")
    refused(path, victim, "is not a signature of")
    signature.of(path).unlink()
    with pytest.raises(LabError, match="is not signed"):
        portable.import_(path, portable.read(path), signers=victim / "file")


def test_an_export_that_another_overtakes_is_whole(tmp_path: Path) -> None:
    for name, size in (("big", 2**24), ("small", 2**16)):
        (tmp_path / name / "layers").mkdir(parents=True)
        (tmp_path / name / "layers/file").write_bytes(os.urandom(size))
    path, unpacked = tmp_path / "lab.tar.zst", tmp_path / "unpacked"

    def export(name: str, tell: Callable[[int], None] = lambda _: None) -> None:
        archive.write(path, {"name": name}, [(tmp_path / name, "layers")], tell, 60)

    overtaken: list[str] = []

    def overtake(done: int) -> None:
        if not overtaken:
            overtaken.append("small")
            export("small")
            assert archive.read_header(path) == {"name": "small"}
            archive.check(path, lambda _: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "every", lambda seconds: lambda: True)
        export("big", overtake)
    assert overtaken
    archive.check(path, lambda _: None)
    unpacked.mkdir()
    archive.unpack(path, unpacked, lambda parts, member: True, 2**24, (), lambda: None, 60)
    assert (unpacked / "layers/file").read_bytes() == (tmp_path / "big/layers/file").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "lab.tar.zst", "small", "unpacked"]


@pytest.mark.parametrize("kind", ["replaced", "written to"])
def test_a_file_that_changes_while_it_is_imported_is_refused(
    kind: str, forge: Forge, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, check = forge(regular("./keys/x")), archive.check

    def changed(path: Path, tell: Callable[[int], None]) -> None:
        check(path, tell)
        content = path.read_bytes()
        if kind == "replaced":
            path.unlink()
        path.write_bytes(content)

    monkeypatch.setattr(archive, "check", changed)
    refused(path, victim, "was changed while it was imported")


def test_a_golden_disk_that_reads_the_hosts_files_is_refused(forge: Forge, victim: Path, tmp_path: Path) -> None:
    disk, name = tmp_path / "disk", "vm-0123456789abcdef"
    backing = ["-b", str(victim / "file"), "-F", "raw"]
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *backing, disk, "1M"], check=True)
    inner = regular(f"./{name}/tree/disk.qcow2", disk.read_bytes())
    path = forge(directory(f"./{name}"), directory(f"./{name}/tree"), inner, images=[{"name": name, "digest": "0"}])
    refused(path, victim, "has a backing file that labctl did not give it")


def _region(spec: Any) -> None:
    spec["region"] = "$(touch /tmp/evil)"


def _physical(spec: Any) -> None:
    spec["networks"]["management"]["physical"] = "a\nb"


def _vault(spec: Any) -> None:
    spec["vault"] = "http://x/ ; reboot"


@pytest.mark.parametrize("edit", [_region, _physical, _vault])
def test_a_value_that_no_topology_may_have_is_refused(edit: Callable[[Any], None], forge: Forge, victim: Path) -> None:
    refused(forge(edit=edit), victim, r"cannot read: entry\.spec")


@pytest.mark.parametrize("name", ["lab.json", "keys", "nodes", "layers"])
def test_an_image_has_an_images_name(name: str, forge: Forge, victim: Path) -> None:
    refused(forge(images=[{"name": name, "digest": "0"}]), victim, r"cannot read: images")


def test_a_record_of_another_name_is_not_this_labs(forge: Forge) -> None:
    path = forge(directory("./layers/1/second"))
    lab = portable.import_(path, portable.read(path))
    assert Lab.load("small").name == lab.name
    lab.directory.rename(lab.directory.with_name("other"))
    with pytest.raises(LabError, match="cannot be read"):
        Lab.load("other")
