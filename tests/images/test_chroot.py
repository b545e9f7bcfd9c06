"""A command on top of image layers: what it sees, what it changes, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.host import process
from labctl.images.chroot import Bind, Chroot

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which needs root"),
    pytest.mark.skipif(bool(process.missing("unshare", "setpriv", "chroot")), reason="util-linux is not installed"),
]

#: The programs of this machine stand for those of an image.
PROGRAMS = tuple(Bind(Path(p)) for p in ("/usr", "/bin", "/sbin", "/lib", "/lib64") if Path(p).exists())


def layer(directory: Path, **files: str) -> Path:
    for place in ("etc", "proc", "dev/shm", "tmp"):
        (directory / "tree" / place).mkdir(parents=True)
    for name, text in files.items():
        (directory / "tree/etc" / name).write_text(text)
    return directory


@pytest.fixture
def inside(tmp_path: Path) -> Chroot:
    layers = (layer(tmp_path / "top", name="top\n"), layer(tmp_path / "bottom", name="bottom\n", other="bottom\n"))
    return Chroot(layers, tmp_path / "build", PROGRAMS)


def test_the_uppermost_layer_is_seen_first(inside: Chroot) -> None:
    assert inside.run("cat", "/etc/name", "/etc/other", timeout=10) == "top\nbottom\n"


def test_layers_may_have_names_that_the_options_of_a_mount_would_read_otherwise(tmp_path: Path) -> None:
    place = tmp_path / "a,b:c\\d e"
    inside = Chroot(
        (layer(place / "top", name="top\n"), layer(place / "low", other="low\n")), place / "build", PROGRAMS
    )
    assert inside.run("sh", "-c", "cat /etc/name /etc/other; echo x >/etc/new", timeout=10) == "top\nlow\n"
    assert (inside.upper / "etc/new").read_text() == "x\n"


def test_changes_are_kept_beside_the_layers(inside: Chroot) -> None:
    inside.run("sh", "-c", "echo changed >/etc/name", timeout=10)

    assert (inside.upper / "etc/name").read_text() == "changed\n"
    assert (inside.layers[0] / "tree/etc/name").read_text() == "top\n"
    assert inside.run("cat", "/etc/name", timeout=10) == "changed\n"


def test_what_is_bound_can_be_read_and_not_changed(inside: Chroot, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.write_text("mine\n")
    chroot = Chroot(inside.layers, inside.directory, (*PROGRAMS, Bind(shown, "/etc/deep/shown")))

    assert chroot.run("cat", "/etc/deep/shown", timeout=10) == "mine\n"
    with pytest.raises(process.CommandError, match="Read-only file system"):
        chroot.run("sh", "-c", "echo theirs >/etc/deep/shown", timeout=10)
    assert shown.read_text() == "mine\n"


def test_a_directory_can_be_bound_to_be_filled(inside: Chroot, tmp_path: Path) -> None:
    (tmp_path / "filled").mkdir()
    chroot = Chroot(inside.layers, inside.directory, (*PROGRAMS, Bind(tmp_path / "filled", "/made", writable=True)))

    chroot.run("touch", "/made/it", timeout=10)

    assert [p.name for p in (tmp_path / "filled").iterdir()] == ["it"]


def test_a_link_in_the_tree_does_not_lead_a_bind_out_of_it(inside: Chroot, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.write_text("outside\n")
    shown = tmp_path / "shown"
    shown.write_text("shown\n")
    (inside.layers[0] / "tree/etc/link").symlink_to(target)
    chroot = Chroot(inside.layers, inside.directory, (*PROGRAMS, Bind(shown, "/etc/link")))

    assert chroot.run("cat", "/etc/link", timeout=10) == "shown\n"
    assert target.read_text() == "outside\n"


def test_it_sees_its_own_processes_only(inside: Chroot) -> None:
    assert inside.run("sh", "-c", "echo $$", timeout=10) == "1\n"


BUILDER = """
import sys
from pathlib import Path
from labctl.images.chroot import Bind, Chroot
directory, seconds, *programs = sys.argv[1:]
root = Path(directory)
binds = tuple(Bind(Path(p)) for p in programs)
Chroot((root / "top", root / "bottom"), root / "build", binds).run("sh", "-c", f"sleep {seconds}; true", timeout=600)
"""


def running(command: str) -> bool:
    wanted = command.replace(" ", "\0").encode() + b"\0"
    return any(path.read_bytes() == wanted for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


def eventually(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_labctl_killed_leaves_no_process_and_no_mount(inside: Chroot, tmp_path: Path) -> None:
    sleep = f"sleep {600 + os.getpid()}"  # a command line like no other
    words = [sys.executable, "-c", BUILDER, tmp_path, sleep.split()[1], *(b.source for b in PROGRAMS)]
    builder = process.start(words)
    eventually(lambda: running(sleep))

    builder.send_signal(signal.SIGKILL)
    builder.wait()

    eventually(lambda: not running(sleep))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    process.run(["rm", "-r", tmp_path / "build"])  # as the store's sweep does
