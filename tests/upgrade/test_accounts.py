"""Files of a node belong to the same names after its image changed, whatever their numbers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labctl.upgrade.accounts import Renumbered, give, renumbered
from labctl.upgrade.data import keep

OLD = "root:x:0:0::/root:/bin/sh\nchrony:x:102:105::/:/bin/false\nmysql:x:104:109::/:/bin/false\ngone:x:300:300::/:/x\n"
NEW = "root:x:0:0::/root:/bin/sh\nchrony:x:101:105::/:/bin/false\nmysql:x:102:104::/:/bin/false\nnova:x:162:162::/:/x\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")


def image(path: Path, passwd: str, group: str = "") -> list[Path]:
    etc = path / "tree/etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(group)
    return [path]


def test_only_names_that_both_images_have_with_other_numbers_change(tmp_path: Path) -> None:
    old = image(tmp_path / "old", OLD, "mysql:x:109:\n")
    new = image(tmp_path / "new", NEW, "mysql:x:104:\n")
    assert renumbered(old, new) == Renumbered({102: 101, 104: 102}, {109: 104})
    assert not renumbered(old, old)


@needs_root
def test_files_go_to_the_new_numbers_of_their_owners_however_often(tmp_path: Path) -> None:
    """102 is chrony's old number and mysql's new one: a second time must not give mysql's files to chrony."""
    root, newest, oldest = (tmp_path / name for name in ("root", "newest", "oldest"))
    for top in (root, oldest):
        (top / "var/lib/mysql").mkdir(parents=True)
        for name, owner in (("ibdata1", 104), ("removed", 104), ("drift", 102), ("changed", 104)):
            (top / f"var/lib/mysql/{name}").write_text("")
            os.chown(top / f"var/lib/mysql/{name}", owner, 109)
    (newest / "var/lib/mysql").mkdir(parents=True)
    (newest / "var/lib/mysql/changed").write_text("")  # root's by now
    (root / "var/lib/mysql/removed").unlink()
    (root / "of-the-image").write_text("")
    os.chown(root / "of-the-image", 104, 109)
    (oldest / "link").symlink_to("/etc/shadow")
    (root / "link").symlink_to("/etc/shadow")
    os.chown(oldest / "link", 104, 109, follow_symlinks=False)
    shadow = Path("/etc/shadow").stat()
    for _ in range(2):
        give(root, [newest, oldest], Renumbered({102: 101, 104: 102}, {109: 104}))
        owners = {p.name: (p.lstat().st_uid, p.lstat().st_gid) for p in root.rglob("*") if not p.is_dir()}
        assert owners == {
            "ibdata1": (102, 104),
            "drift": (101, 104),
            "changed": (104, 109),  # written by root in a newer layer: nothing says it is mysql's
            "of-the-image": (104, 109),
            "link": (102, 104),
        }
    assert Path("/etc/shadow").stat() == shadow


@needs_root
def test_data_is_that_of_the_old_image_and_of_the_node_and_nothing_of_the_new_image(tmp_path: Path) -> None:
    """MariaDB of one version would not start over system tables and undo logs of two."""

    def tree(top: Path, texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            path = top / "var/lib/mysql" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.chown(path, 104, 109)
        return top

    old, lower = tmp_path / "old", tmp_path / "lower"
    tree(old / "tree", {"undo001": "old", "ibdata1": "old", "mysql/help": "old", "gone-on-the-node": "old"})
    tree(lower / "tree", {"undo001": "of a lower layer", "flag": "old"})
    frozen = tree(tmp_path / "frozen", {"ibdata1": "the node's", "nova/instances": "the node's"})
    os.mknod(frozen / "var/lib/mysql/gone-on-the-node", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    root = tmp_path / "root"
    fresh = {"undo001": "new", "undo002": "new", "mysql/help": "new", "sys/new": "new"}
    tree(root, {**fresh, "ibdata1": "the node's", "nova/instances": "the node's"})
    for _ in range(2):
        keep(root, "var/lib/mysql", [old, lower], [frozen], Renumbered({104: 102}, {109: 104}))
        found = {
            p.relative_to(root / "var/lib/mysql").as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()
        }
        assert found == {
            "undo001": "old",
            "flag": "old",
            "mysql/help": "old",
            "ibdata1": "the node's",
            "nova/instances": "the node's",
        }
        brought = (root / "var/lib/mysql/undo001").stat()
        assert (brought.st_uid, brought.st_gid) == (102, 104)
    assert not (root / "var/lib/mysql/sys").exists()
