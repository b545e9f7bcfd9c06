"""Initial RAM file systems: busybox, a few kernel modules and an init script, nothing of a distribution's own."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from labctl.host import process


def pack(
    work: Path, busybox: Path, applets: Sequence[str], init: Path, modules: Mapping[str, Mapping[str, bytes]]
) -> Path:
    """Lay out the tree in ``work`` and return its gzipped archive, beside it.

    :param modules: group -> module name -> content, in an order in which they can be loaded. The init script
        finds a group's files listed in ``/modules/GROUP``.
    """
    for name in ("bin", "dev", "proc", "sys", "new", "modules"):
        (work / name).mkdir(parents=True)
    shutil.copy(busybox, work / "bin/busybox")
    for applet in applets:
        (work / "bin" / applet).symlink_to("busybox")
    shutil.copy(init, work / "init")
    (work / "init").chmod(0o755)
    for group, contents in modules.items():
        (work / "modules" / group).write_text("".join(f"{name}.ko\n" for name in contents))
        for name, content in contents.items():
            (work / "modules" / f"{name}.ko").write_bytes(content)
    names = "".join(f"{path.relative_to(work)}\n" for path in sorted(work.rglob("*")))
    archive = work.with_suffix(".cpio")
    process.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-F", archive], stdin=names, cwd=work)
    initrd = work.with_suffix(".gz")
    initrd.write_bytes(gzip.compress(archive.read_bytes(), 9, mtime=0))
    return initrd
