"""The files that a user can hand over to labctl: good ones, how each is changed, and the commands that read it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutations
import zstandard
from support import ROOT, SMALL, TOPOLOGIES, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.host import paths
from labctl.images import store
from labctl.lab import portable, snapshot
from labctl.nightly import facts
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.records.lab import Lab

Mutation = Callable[[bytes, random.Random], bytes]
#: Word of a command that stands for the file.
FILE = "FILE"
LAB = "small"
#: Looks at all that a home holds, and then removes the lab.
LOOK = (
    *(("list",), ("list", "-o", "json"), ("status", LAB), ("info", LAB), ("snapshot", "list", LAB), ("secrets", LAB)),
    *(("env", LAB), ("plan", LAB), ("fault", "list", LAB), ("verify", LAB), ("logs", LAB), ("nightly", "list")),
    *(("nightly", "show"), ("image", "list"), ("image", "verify"), ("vagrant", "boxes"), ("gc", "--dry-run")),
    *(("gc", "--images", "--dry-run"), ("snapshot", "restore", LAB), ("repair", LAB), ("down", LAB), ("gc",)),
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of file: good ones by name, changes, and commands that get one; its share of all cases."""

    share: int
    files: Mapping[str, bytes]
    mutate: Mutation
    commands: tuple[tuple[str, ...], ...]
    #: the files are in labctl's home, beside a lab
    at_home: bool = False
    #: of the commands only some, chosen at random
    sample: int = 0
    #: an accepted file is a topology, whose programs are looked at
    programs: bool = False


@dataclass
class Targets:
    """All kinds, and the home they were made in."""

    home: Path
    kinds: dict[str, Kind] = field(default_factory=dict)

    def choose(self, dice: random.Random) -> str:
        """A kind, by share."""
        return dice.choices(list(self.kinds), [kind.share for kind in self.kinds.values()])[0]


def prepare(directory: Path) -> Targets:
    """Make a home with a lab, a snapshot, an export, a box and a nightly run; the environment names it."""
    os.environ["LABCTL_HOME"] = os.environ["HOME"] = str(directory / "home")
    os.environ["LABCTL_CACHE"] = str(directory / "cache")
    drivers.LOADED.update(dict.fromkeys(drivers.DRIVERS, _fake()))
    export = _lab(directory)
    _box()
    with History() as history:
        history.begin_run([Cell("small", "small")], **facts.run_facts())
    home = paths.home()
    state = {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}
    labs = {path.name: path.read_bytes() for path in TOPOLOGIES} | {"small.yaml": SMALL.encode()}
    nightly = {"nightly.yaml": (ROOT / "nightly.yaml").read_bytes(), "other.yaml": NIGHTLY.encode()}
    boxes = {name: data for name, data in state.items() if name.startswith("boxes/")}
    in_yaml, in_json = mutations.text(mutations.as_yaml), mutations.text(mutations.as_json)
    render = ("vagrant", "render", "zed-2node", "--base", "debian12", "--to", "rendered")
    text = {name: data for name, data in state.items() if name.endswith(".json") and name not in boxes}
    other = {name: data for name, data in state.items() if name not in text and name not in boxes}
    kinds = {
        "topology": Kind(40, labs, in_yaml, (("validate", FILE),), programs=True),
        "nightly": Kind(12, nightly, in_yaml, (("nightly", "cells", "--file", FILE),)),
        "export": Kind(12, {"x.tar.zst": export}, _export, (("snapshot", "import", FILE), ("list",), ("down", LAB))),
        "box": Kind(6, boxes, in_json, (("vagrant", "boxes"), render), at_home=True),
        "media": Kind(4, {"x.iso": bytes(2**16)}, mutations.raw, (("image", "add", FILE),)),
        "state": Kind(20, text, in_json, LOOK, at_home=True, sample=6),
        "state, other": Kind(6, other, mutations.text(lambda data, dice: data), LOOK, at_home=True, sample=6),
    }
    return Targets(home, kinds)


NIGHTLY = """\
matrix:
  - topology: small.yaml
    releases: [zed, train]
    bases: [debian12]
    drivers: [nspawn, libvirt]
    exclude: [{release: train, driver: libvirt}]
    timeouts: {up: 2 h}
    tests: {select: [e2e/test_identity.py], keyword: not slow, workers: 2}
timeouts: {up: 1 h, test: 30 min, down: 60 s}
jobs: 2
notify: {command: [mail, root], on: failure}
"""


def _fake() -> Fake:
    made = Fake()
    made.image = lambda lab: (_image(),)  # type: ignore[method-assign]
    return made


def _image() -> Path:
    def build(work: Path) -> dict[str, Any]:
        (work / "tree").mkdir()
        (work / "tree/file").write_text("golden")
        return {}

    return store.ensure(store.Recipe("base", {}), build)


def _lab(directory: Path) -> bytes:
    """A lab with a snapshot in this home; the snapshot as exported."""
    path = write(directory, SMALL)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up()
    snapshot.create(lab, "ready")
    portable.export(lab, "ready", directory / "x.tar.zst")
    return (directory / "x.tar.zst").read_bytes()


def _box() -> None:
    path = paths.home() / "boxes/labctl-debian12-zed.json"
    path.parent.mkdir()
    entry = {"name": "libvirt", "url": "file:///x.box", "checksum_type": "sha256", "checksum": "0" * 64}
    versions = [{"version": "1.0.7", "providers": [entry]}]
    path.write_text(json.dumps({"name": "labctl/debian12-zed", "versions": versions}))


# --- exports: the checksum is right again after a change -----------------------------------------------

_FRAME = struct.Struct("<II")


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The header's text, and the compressed content."""
    _, length = _FRAME.unpack_from(data)
    trailer = data.rindex(data[:4])
    return data[_FRAME.size : _FRAME.size + length], data[_FRAME.size + length : trailer]


def _sealed(magic: bytes, header: bytes, content: bytes) -> bytes:
    whole = magic + struct.pack("<I", len(header)) + header + content
    seal = json.dumps({"sha256": hashlib.sha256(whole).hexdigest()}, separators=(",", ":")).encode()
    return whole + magic + struct.pack("<I", len(seal)) + seal


def _export(data: bytes, dice: random.Random) -> bytes:
    header, content = _parts(data)
    how = dice.random()
    if how < 0.15:
        return mutations.raw(data, dice)
    if how < 0.6:
        return _sealed(data[:4], mutations.text(mutations.as_json)(header, dice), content)
    if how < 0.7:
        return _sealed(data[:4], header, mutations.raw(content, dice))
    return _sealed(data[:4], header, _members(content, dice))


def _members(content: bytes, dice: random.Random) -> bytes:
    """The archive with a member of another kind, name or size."""
    plain = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    sink = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=sink, mode="w") as new:
        found = old.getmembers()
        chosen = dice.choice(found)
        for member in found:
            body = old.extractfile(member) if member.isreg() else None
            if member is chosen:
                kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)
                how = dice.randrange(4)
                if how == 0:
                    member.type, member.linkname = dice.choice(kinds), dice.choice(("../../escaped", "nowhere", "."))
                elif how == 1:
                    member.name = f"{member.name}/{dice.choice(('..', '../../../escaped', 'x' * 300, 'new'))}"
                elif how == 2:
                    member.mode = dice.choice((0, 0o4755, 0o7777))
                else:
                    continue
                body = body if member.isreg() else None
            new.addfile(member, body)
    return zstandard.ZstdCompressor(level=1).compress(sink.getvalue())


def bring(kind: Kind, targets: Targets, case: Path) -> None:
    """Make a case's home: with the lab, or empty."""
    if kind.at_home:
        shutil.copytree(targets.home, case / "home", symlinks=True)
    else:
        (case / "home").mkdir()
