"""Small projects of the tests' own: working trees, repositories, archives."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from labctl.host import process

#: A project as OpenStack's are: pbr, an entry point, a command, a file for /etc, modules that change tables.
FILES = {
    "setup.cfg": """
[metadata]
name = {project}
summary = a project of labctl's own tests
[files]
packages =
    {project}
data_files =
    etc/{project} =
        etc/{project}/api-paste.ini
[entry_points]
console_scripts =
    {project}-hello = {project}.cmd:main
{project}.drivers =
    plain = {project}.cmd:main
""",
    "setup.py": "import setuptools\nsetuptools.setup(setup_requires=['pbr>=2.0.0'], pbr=True)\n",
    "requirements.txt": "pbr>=2.0.0\n",
    "README.rst": "A project\n",
    "etc/{project}/api-paste.ini": "[composite:main]\n",
    "{project}/__init__.py": "",
    "{project}/cmd.py": "def main():\n    print('hello')\n",
    "{project}/db/migrations/versions/001_first.py": "revision = '1'\n",
    "{project}/tests/test_it.py": "assert True\n",
}


def make(place: Path, project: str = "nova", files: Mapping[str, str] | None = None) -> Path:
    """A tree with these files besides the usual ones; an empty text leaves one out."""
    for name, text in {**FILES, **(files or {})}.items():
        if text or name.endswith("__init__.py"):
            path = place / name.format(project=project)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{project}", project))
    return place


def fetched(distribution: str, into: Path, version: str = "") -> Path:
    """The tree of a project's source distribution, from the package index of this machine."""
    wanted = f"{distribution}=={version}" if version else distribution
    words = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", into, wanted]
    process.run([sys.executable, "-m", "pip", *words], timeout=300)
    (path,) = into.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(into, filter="data")
    (tree,) = (place for place in into.iterdir() if place.is_dir() and place.name in path.name)
    return tree


def git(place: Path, *words: str) -> str:
    """What git says in a tree."""
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false")
    return process.run(["git", "-C", place, *who, *words]).stdout.strip()


def commit(place: Path, tag: str = "") -> str:
    """Commit everything, and tag it; the commit's hash."""
    if not (place / ".git").exists():
        git(place, "init", "--quiet", "--initial-branch", "master")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--allow-empty", "--message", "a change")
    if tag:
        git(place, "tag", tag)
    return git(place, "rev-parse", "HEAD")


def packed(place: Path, into: Path, name: str) -> Path:
    """A source distribution of a tree."""
    (place / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: nova\nVersion: {name.split('-')[1]}\n")
    path = into / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(place, name)
    return path
