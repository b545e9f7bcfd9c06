"""A tree comes before the release's modules on a node, with its files and commands, and goes without a trace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labctl.host import process
from labctl.operations import script, source

PROGRAM = """
{prelude}
{functions}
# the places of a node, below a directory of the test
PATH={root}/bin:/usr/bin:/bin
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's directories; an interpreter whose modules are in one of them."""
    modules = tmp_path / "modules"
    for name in ("bin", "usr/bin", "usr/local/bin", "etc/nova", "modules"):
        (tmp_path / name).mkdir(parents=True)
    (modules / "nova.py").write_text("where = 'release'\n")
    python = tmp_path / "bin" / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *get_path*) echo {modules}; exit ;; esac\n'
        f"exec {sys.executable} -c \"import site; site.addsitedir('{modules}')\n$2\"\n"
    )
    python.chmod(0o755)
    (tmp_path / "etc" / "nova" / "api-paste.ini").write_text("of the release\n")
    (tmp_path / "etc" / "nova" / "nova.conf").write_text("of the lab\n")
    return tmp_path


def tree(root: Path, layer: str, says: str) -> None:
    place = root / "opt/openstack/source/nova" / layer
    for name, text in {
        "site/nova.py": f"where = '{says}'\n",
        "etc/nova/api-paste.ini": f"of {says}\n",
        "etc/nova/nova.conf": "a sample\n",
        "etc/nova/rootwrap.conf": f"of {says}\n",
        "bin/nova-new": "#!/bin/sh\n",
        "whole": "",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "bin" / "nova-new").chmod(0o755)


def run(root: Path, operation: source.SourceTree | source.NoSource) -> tuple[int, str]:
    """The status of an operation, and where the interpreter then finds the module."""
    text = PROGRAM.format(prelude=script.prelude(), functions=source.FUNCTIONS.read_text(), root=root)
    text += operation.shell() + "\n"
    for before in ("=/opt/openstack", '"/etc/', " /etc/ ", ' "/usr/local/bin', " /usr/local/bin", '"/usr/bin/$name'):
        mark, _, place = before.partition("/")
        text = text.replace(before, f"{mark}{root}/{place}")
    done = process.run(["sh", "-c", text], check=False)
    print(done.stdout, done.stderr)
    said = process.output([root / "bin" / "python", "-c", "import nova; print(nova.where)"])
    return done.returncode, said.strip()


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_tree_is_used_changed_and_taken_away(root: Path) -> None:
    python = str(root / "bin" / "python")
    before = files(root)
    tree(root, "source-nova-1", "first")
    first = source.SourceTree("nova", "source-nova-1", python)
    assert run(root, first) == (10, "first")
    assert run(root, first) == (0, "first")
    etc = root / "etc" / "nova"
    assert (etc / "api-paste.ini").read_text() == "of first\n"
    assert (etc / "rootwrap.conf").read_text() == "of first\n"
    assert (etc / "nova.conf").read_text() == "of the lab\n"
    assert (root / "usr/local/bin/nova-new").resolve().name == "nova-new"

    tree(root, "source-nova-2", "second")
    assert run(root, source.SourceTree("nova", "source-nova-2", python)) == (10, "second")
    assert not (root / "opt/openstack/source/nova/source-nova-1").exists()

    gone = source.NoSource("nova", python)
    assert run(root, gone) == (10, "release")
    assert run(root, gone) == (0, "release")
    (etc / "rootwrap.conf").unlink(missing_ok=True)  # it was not there before, and harms nobody
    assert files(root) == before


def test_a_tree_that_did_not_come_whole_is_not_used(root: Path) -> None:
    tree(root, "source-nova-1", "first")
    (root / "opt/openstack/source/nova/source-nova-1/whole").unlink()
    used = source.SourceTree("nova", "source-nova-1", str(root / "bin" / "python"))
    assert run(root, used) == (1, "release")
