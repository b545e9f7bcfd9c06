"""Overlay mounts, where labctl's home has a name that the options of a mount would read otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import ROOT

from labctl.doctor import host
from labctl.errors import LabError
from labctl.host import overlay, process
from labctl.images import installer

NAMES = ["plain", "a blank", "com,ma", "co:lon", "back\\slash", "end\\", "a=b", "유니코드", "\\:,", "tab\there"]
#: Mounts layers of a home in a mount namespace of its own, and prints what is seen.
PROBE = """
import sys
from pathlib import Path
from labctl.host import overlay
home = Path(sys.argv[1])
lab, images = home / "labs/x", [home / "images/1/tree", home / "images/2/tree"]
for path in (*images, lab / "root", lab / "upper", lab / "work"):
    path.mkdir(parents=True)
(images[0] / "first").touch()
(images[1] / "second").touch()
overlay.mount(lab / "root", "labctl-test", images, lab / "upper", lab / "work", lab)
print(sorted(p.name for p in (lab / "root").iterdir()), overlay.mounted(lab / "root"), overlay.upper(lab / "root"))
print(set(images) <= overlay.lower(), overlay.below(lab) == [lab / "root"], overlay.unmount(lab / "root"))
"""


def able() -> bool:
    return os.geteuid() == 0 and process.run(["unshare", "--mount", "true"], check=False).returncode == 0


#: Mounts on a file system without a free inode, then on one that has some again.
FULL = """
import sys
from pathlib import Path
from labctl.errors import NoSpaceError
from labctl.host import overlay, process
lab = Path(sys.argv[1])
process.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=64", "none", lab])
for name in ("lower", "root", "upper", "work"):
    (lab / name).mkdir()
layers = ("labctl-test", [lab / "lower"], lab / "upper", lab / "work", lab)
number = 0
try:
    while True:
        (lab / f"ballast-{number}").touch()
        number += 1
except OSError:
    pass
try:
    overlay.mount(lab / "root", *layers)
except NoSpaceError as error:
    print("full" in error.message, overlay.mounted(lab / "root"), overlay.read_only(lab / "root"))
for path in lab.glob("ballast-*"):
    path.unlink()
overlay.mount(lab / "root", *layers)
(lab / "root" / "file").touch()
process.run(["mount", "--bind", lab, lab])
process.run(["mount", "-o", "remount,bind,ro", lab])
print(overlay.mounted(lab / "root"), overlay.read_only(lab / "root"))
process.run(["umount", lab])
print(overlay.mounted(lab / "root"), overlay.read_only(lab / "root"), overlay.unmount(lab / "root"))
"""


needs_mounts = pytest.mark.skipif(not able(), reason="mounts need root")


@needs_mounts
@pytest.mark.parametrize("name", NAMES)
def test_layers_are_mounted_and_known_whatever_the_home_is_called(name: str, tmp_path: Path) -> None:
    words = ["unshare", "--mount", sys.executable, "-c", PROBE, tmp_path / name]
    said = process.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    assert said == "['first', 'second'] True upper\nTrue True \n"


@needs_mounts
def test_nothing_is_mounted_on_a_full_disk_which_the_kernel_would_make_read_only(tmp_path: Path) -> None:
    words = ["unshare", "--mount", sys.executable, "-c", FULL, tmp_path]
    said = process.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    assert said == "True False False\nTrue False\nTrue False \n"


def test_the_one_character_that_a_home_cannot_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"quo\"te/tree cannot be a layer: .*quote") as caught:
        overlay.mount(tmp_path, "x", [Path('/quo"te/tree')], tmp_path / "upper", tmp_path / "work", tmp_path)
    assert "LABCTL_HOME" in caught.value.hint


@needs_mounts
@pytest.mark.parametrize(("name", "state"), [("a,b:c\\d", host.State.OK), ('quo"te', host.State.PROBLEM)])
def test_the_doctor_says_what_the_home_can_be_called(
    name: str, state: host.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / name))
    (finding,) = host.overlay()
    assert finding.state is state, finding
    assert state is host.State.OK or "a quote in it" in finding.found


def test_a_comma_in_the_name_of_a_disk_begins_no_option_of_qemu() -> None:
    boot = installer.Boot(Path("/k"), Path("/i"), "", (Path("/a,readonly=off/disc"),))
    words = installer.command(boot, Path("/a,b/disk"), Path("/c"), memory=1, cpus=1, kvm=False)
    assert [str(w).split(",if=")[0] for w in words if str(w).startswith("file=")] == [
        "file=/a,,b/disk",
        "file=/a,,readonly=off/disc",
    ]
