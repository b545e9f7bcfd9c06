"""Files that labctl finds by itself in the working directory, and who else could have written them.

A file that was named on the command line is read whoever wrote it. One that was not must belong to root, to whoever
runs labctl, or to the user whose ``sudo`` runs it, with all directories above it, as for git's safe.directory
(CVE-2022-24765) and ssh's StrictModes.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from labctl.errors import LabError


def refuse_others(path: Path, hint: str) -> None:
    """Refuse a file that others own or can write.

    :param hint: the command that names the file.
    :raises LabError: they do; says which file or directory, and whose it is.
    """
    for place in {p: None for end in (path.absolute(), path.resolve()) for p in (end, *end.parents)}:
        if why := _others(place):
            raise LabError(
                f"{path} was found in this directory and is not used: {place} {why}",
                f"{hint}, to use it anyway; or change to a directory of your own",
            )


def _others(place: Path) -> str:
    """Why a file or directory may contain what others wrote; empty if it does not."""
    status = place.lstat()
    if status.st_uid not in _own():
        return f"belongs to {_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if status.st_mode & stat.S_IWGRP and not _private(status.st_gid, status.st_uid):
        return "can be written by its group"
    return ""


def _own() -> set[int]:
    """Users whose files are trusted: root, this one and, under sudo, who called it."""
    caller = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    return {0, os.geteuid(), *([int(caller)] if caller.isdecimal() else [])}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _private(gid: int, uid: int) -> bool:
    """True when a group is its user's own, as most distributions make one for each user."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
