"""A copy of the files that a source names, with what git says of them. Nothing of them is run."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from email.parser import HeaderParser
from pathlib import Path

from labctl.errors import LabError, RefusedError
from labctl.host import files, paths, process
from labctl.progress import step
from labctl.sources.given import Given, Kind

#: Left out of a directory that is no git repository: what tools make of a project's files, and no project needs.
MADE = {".git", ".tox", ".nox", ".venv", "venv", "build", "dist", "__pycache__", ".eggs", ".stestr", ".mypy_cache"}
#: Seconds for git to read what is there, and to fetch a whole project.
GIT, FETCH = 60, 1800
#: Times that a tree which changes meanwhile is read.
READS = 3
#: Names that an unknown ref is shown with.
NEAR = 5
#: A repository's owner need not be who runs labctl; nobody is there to answer a question.
_GIT = ("git", "-c", "safe.directory=*", "-c", "advice.detachedHead=false")
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
_DESCRIBED = re.compile(r"(\d+(?:\.\d+)*)(.*)-(\d+)-g[0-9a-f]+")


@dataclass(frozen=True)
class Taken:
    """A project's files, copied: ``directory`` has them, ``commit`` and ``described`` are git's, empty without it."""

    directory: Path
    commit: str = ""
    dirty: bool = False
    described: str = ""

    @property
    def wheel(self) -> Path | None:
        """The wheel, where the source is one."""
        return next(self.directory.glob("*.whl"), None)

    @property
    def version(self) -> str:
        """Its version, by a source distribution's own words, else by its tags as pbr counts; empty if neither says."""
        if self.wheel is not None:
            return self.wheel.name.split("-")[1]
        told = self.directory / "PKG-INFO"
        if told.is_file():
            return str(HeaderParser().parsestr(told.read_text(errors="replace"))["Version"] or "")
        found = _DESCRIBED.fullmatch(self.described)
        if found is None:
            return ""
        number, rest, distance = found.groups()
        if distance == "0":
            return number + rest
        *first, last = number.split(".")
        return ".".join([*first, last if rest else str(int(last) + 1)]) + f"{rest}.dev{distance}"


def take(given: Given, into: Path) -> Taken:
    """Copy a source's files into an empty directory.

    :raises RefusedError: there is no such ref, or it is not a project's tree.
    :raises LabError: it cannot be read, or changes all the time.
    """
    with step("source", f"read {given.text}"):
        found = {Kind.TREE: _tree, Kind.COMMIT: _commit, Kind.ARCHIVE: _archive}[given.kind](given, into)
    if found.wheel is None and not any((found.directory / name).is_file() for name in ("setup.cfg", "pyproject.toml")):
        raise RefusedError(f"{given.text} is not a Python project: it has neither setup.cfg nor pyproject.toml")
    return found


def _git(place: Path | str, *words: str, timeout: float = GIT) -> str:
    return process.run([*_GIT, "-C", place, *words], timeout=timeout, env={**os.environ, **_QUIET}).stdout


def asked(place: Path | str, *words: str) -> str:
    """What git says of a repository, empty if it refuses."""
    done = process.run([*_GIT, "-C", place, *words], timeout=GIT, env={**os.environ, **_QUIET}, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _described(place: Path | str, commit: str) -> str:
    return asked(place, "describe", "--tags", "--long", "--match", "[0-9]*", commit)


# --- a working tree ----------------------------------------------------------------------------------


def stamp(place: Path) -> str:
    """What changes with every edit of a working tree."""
    return _stamps(place, _names(place))


def _is_repository(place: Path) -> bool:
    top = asked(place, "rev-parse", "--show-toplevel")
    return top != "" and Path(top) == place


def _names(place: Path) -> list[str]:
    return list(_tracked(place) if _is_repository(place) else _walked(place))


def _tree(given: Given, into: Path) -> Taken:
    place = Path(given.place)
    for _ in range(READS):
        names = _names(place)
        before = _stamps(place, names)
        if _copied(place, names, into) and _stamps(place, names) == before:
            break
        files.erase(into)
    else:
        raise LabError(f"{place} changed each of the {READS} times that it was read", "wait until it rests")
    if not _is_repository(place):
        return Taken(into)
    commit = asked(place, "rev-parse", "--verify", "HEAD")
    dirty = bool(asked(place, "status", "--porcelain"))
    return Taken(into, commit, dirty, _described(place, "HEAD") if commit else "")


def _tracked(place: Path) -> Iterator[str]:
    """Files of a working tree, also those that are not committed yet; no ignored ones."""
    for name in _git(place, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        path = place / name
        if name and (path.is_symlink() or path.is_file()):
            yield name


def _walked(place: Path) -> Iterator[str]:
    for directory, below, names in os.walk(place):
        below[:] = [name for name in below if name not in MADE]
        for name in names:
            if not name.endswith(".pyc"):
                yield str((Path(directory) / name).relative_to(place))


def _stamps(place: Path, names: list[str]) -> str:
    """Hash of the files' names, sizes and times; of one that is gone, that it is."""
    found = hashlib.sha256()
    for name in names:
        try:
            status = (place / name).lstat()
        except FileNotFoundError:
            continue
        found.update(f"{name}\0{status.st_size} {status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def _copied(place: Path, names: list[str], into: Path) -> bool:
    """Copy files; False if one of them changed meanwhile, which tar says."""
    packed = into.with_name(f"{into.name}.tar")
    files.write_atomic(into.with_name(f"{into.name}.names"), "\0".join(names).encode(errors="surrogateescape"))
    done = process.run(
        [
            *("tar", "--create", "--null", "--no-recursion", "--verbatim-files-from", "--directory", place),
            *("--files-from", into.with_name(f"{into.name}.names"), "--file", packed),
        ],
        timeout=GIT * 5,
        check=False,
    )
    if done.returncode == 0:
        _unpacked(packed, into)
    files.discard(packed)
    if done.returncode not in (0, 1, 2):
        raise LabError(f"{place} cannot be read: {done.stderr.strip()}")
    return done.returncode == 0


def _unpacked(packed: Path, into: Path) -> None:
    files.make_directories(into)
    process.run(["tar", "--extract", "--no-same-owner", "--directory", into, "--file", packed], timeout=GIT * 5)


# --- a commit ----------------------------------------------------------------------------------------


def _commit(given: Given, into: Path) -> Taken:
    place, commit = _local(given) if Path(given.place).is_dir() else _fetched(given)
    packed = into.with_name(f"{into.name}.tar")
    _git(place, "archive", "--format=tar", f"--output={packed}", commit, timeout=GIT * 5)
    _unpacked(packed, into)
    files.discard(packed)
    return Taken(into, commit, described=_described(place, commit))


def _local(given: Given) -> tuple[Path, str]:
    place = Path(given.place)
    if commit := asked(place, "rev-parse", "--verify", "--quiet", f"{given.ref}^{{commit}}"):
        return place, commit
    if not asked(place, "rev-parse", "--git-dir"):
        raise RefusedError(f"{given.project}: {place} is not a git repository")
    names = asked(place, "for-each-ref", "--format=%(refname:short)").splitlines()
    raise RefusedError(_unknown(given, names))


def _fetched(given: Given) -> tuple[Path, str]:
    """The repository's copy in labctl's cache, brought up to date for one ref."""
    place = paths.cache() / "git" / hashlib.sha256(given.place.encode()).hexdigest()[:16]
    if not (place / "HEAD").exists():
        files.make_directories(place)
        _git(place, "init", "--quiet", "--bare")
    try:
        # with the tags, by which a version is known
        _git(place, "fetch", "--quiet", "--tags", "--force", given.place, given.ref, timeout=FETCH)
    except process.CommandError as error:
        listed = asked(place, "ls-remote", "--refs", given.place)
        if not listed:
            raise LabError(f"{given.project}: {given.place} cannot be fetched: {error.reason}") from error
        names = [line.split("\t")[1].split("/", 2)[-1] for line in listed.splitlines()]
        raise RefusedError(_unknown(given, names)) from error
    return place, _git(place, "rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()


def _unknown(given: Given, names: list[str]) -> str:
    near = get_close_matches(given.ref, names, n=NEAR, cutoff=0.4)
    more = f"; near ones: {', '.join(near)}" if near else ""
    return f"{given.project}: {given.place} has no branch, tag or commit '{given.ref}'{more}"


# --- an archive --------------------------------------------------------------------------------------


def _archive(given: Given, into: Path) -> Taken:
    path = Path(given.place)
    files.make_directories(into)
    if path.suffix == ".whl":
        files.copy(path, into / path.name)
        return Taken(into)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as packed:
                packed.extractall(into)
        else:
            with tarfile.open(path) as packed:
                packed.extractall(into, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise RefusedError(f"{given.project}: {path} is not a source distribution: {error}") from error
    found = list(into.iterdir())
    if len(found) != 1 or not found[0].is_dir():
        raise RefusedError(f"{given.project}: {path} is not a source distribution: it has not one directory")
    return Taken(found[0])
