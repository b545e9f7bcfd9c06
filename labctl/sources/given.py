"""What ``--source PROJECT=WHERE`` names: a working tree, a commit of a repository, an archive, or the release's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labctl.errors import LabError, RefusedError
from labctl.topology.problems import unknown

#: Instead of a place: the release's own again.
RELEASE = "release"
#: Ends of the names of source distributions and wheels.
ARCHIVES = (".tar.gz", ".tgz", ".zip", ".whl")
_URL = re.compile(r"[a-z][a-z+]*://|[^/@]+@[^/:]+:")


class Kind(StrEnum):
    """What a place is."""

    TREE = "tree"
    COMMIT = "commit"
    ARCHIVE = "archive"
    RELEASE = "release"


@dataclass(frozen=True)
class Given:
    """One project and where it comes from; ``ref`` is a commit's name as given."""

    project: str
    kind: Kind
    place: str = ""
    ref: str = ""

    @property
    def text(self) -> str:
        """As it is given again."""
        where = RELEASE if self.kind is Kind.RELEASE else f"{self.place}@{self.ref}" if self.ref else self.place
        return f"{self.project}={where}"


def read(text: str, projects: tuple[str, ...], within: Path) -> Given:
    """What a word like ``nova=/home/me/nova`` or ``nova=https://…/nova@stable/2026.1`` names.

    :param projects: those of the lab.
    :param within: the directory that relative paths begin at.
    :raises RefusedError: it names no project of the lab, or nothing that exists.
    """
    project, sign, where = text.partition("=")
    if not sign or not where:
        raise RefusedError(f"'{text}' is no source", "PROJECT=DIRECTORY, PROJECT=REPOSITORY@REF, PROJECT=FILE")
    if project not in projects:
        raise RefusedError(unknown("project", project, projects))
    if where == RELEASE:
        return Given(project, Kind.RELEASE)
    if _URL.match(where):
        place, at, ref = where.rpartition("@")
        # the first @ of user@host:path is no ref's
        if not at or ("/" not in place and ":" not in place):
            raise RefusedError(f"{project}: {where} names no branch, tag or commit", f"{project}={where}@REF")
        return Given(project, Kind.COMMIT, place, ref)
    path = within / Path(where).expanduser()
    if path.exists():
        return _local(project, path.resolve(), where)
    place, at, ref = where.partition("@")
    path = within / Path(place).expanduser()
    if at and ref and path.is_dir():
        return Given(project, Kind.COMMIT, str(path.resolve()), ref)
    raise RefusedError(f"{project}: there is no {path}")


def _local(project: str, path: Path, where: str) -> Given:
    if path.is_dir():
        return Given(project, Kind.TREE, str(path))
    if path.name.endswith(ARCHIVES):
        return Given(project, Kind.ARCHIVE, str(path))
    raise RefusedError(f"{project}: {where} is neither a directory nor an archive ({', '.join(ARCHIVES)})")


def one_each(given: list[Given]) -> None:
    """Refuse a project that is named twice.

    :raises LabError: it is.
    """
    names = [each.project for each in given]
    for name in names:
        if names.count(name) > 1:
            raise LabError(f"the project {name} has {names.count(name)} sources; it can have one")
