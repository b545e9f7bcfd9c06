"""Initial RAM file systems: busybox, a few kernel modules and an init script, nothing of a distribution's own."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

from labctl.host import files, process


def pack(
    work: Path, busybox: Path, applets: Sequence[str], init: Path, modules: Mapping[str, Mapping[str, bytes]]
) -> Path:
    """Lay out the tree in ``work`` and return its gzipped archive, beside it.

    :param modules: group -> module name -> content, in an order in which they can be loaded. The init script
        finds a group's files listed in ``/modules/GROUP``.
    """
    for name in ("bin", "dev", "proc", "sys", "new", "modules"):
        files.make_directories(work / name)
    files.copy(busybox, work / "bin/busybox", within=work)
    for applet in applets:
        files.link(work / "bin" / applet, "busybox")
    files.copy(init, work / "init", 0o755, within=work)
    for group, contents in modules.items():
        files.write_atomic(work / "modules" / group, "".join(f"{name}.ko\n" for name in contents), within=work)
        for name, content in contents.items():
            files.write_atomic(work / "modules" / f"{name}.ko", content, within=work)
    names = "".join(f"{path.relative_to(work)}\n" for path in sorted(work.rglob("*")))
    archive = work.with_suffix(".cpio")
    process.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-F", archive], stdin=names, cwd=work)
    initrd = work.with_suffix(".gz")
    files.write_atomic(initrd, gzip.compress(archive.read_bytes(), 9, mtime=0))
    return initrd
