"""Whose a lab is, and until when it is kept.

While this machine runs, a lease is counted by the clock that nobody sets (CLOCK_BOOTTIME): a date that jumps neither
ends nor prolongs it. After a reboot the date decides, which is all that is left to compare with.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import FiniteFloat

from labctl.errors import LabError
from labctl.topology.model import Frozen
from labctl.topology.units import parse_time

if TYPE_CHECKING:
    from labctl.records.lab import Lab

#: The keys in a lab's record.
OWNER, LEASE = "owner", "lease"
#: Instead of seconds: a lab is kept until somebody removes it.
NEVER = 0
#: The longest lease in seconds, ten years: no date after it overflows.
LONGEST = 3650 * 86400
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: The names of users as useradd, LDAP and Active Directory have them, and e-mail addresses.
_NAME = re.compile(r"(?=.{1,64}\Z)\w(?:[\w.@+\\-]*[\w$])?")


class Lease(Frozen):
    """Until when a lab is kept.

    ``until`` is in seconds since the epoch, ``seconds`` its length; ``began`` by the clock of the boot with that id.
    """

    until: FiniteFloat
    seconds: FiniteFloat
    boot: str
    began: FiniteFloat


@dataclass(frozen=True)
class Terms:
    """What a command says about a lab's owner and lease: None where it says nothing.

    ``seconds`` from now on, or NEVER.
    """

    owner: str | None = None
    seconds: int | None = None

    @classmethod
    def given(cls, owner: str | None, ttl: str | None) -> Terms:
        """The terms that somebody wrote.

        :raises LabError: no user has such a name, or it is no length of time.
        """
        if owner is not None and not _NAME.fullmatch(owner):
            raise LabError(
                f"{owner!r} is not an owner's name",
                "use the name of a user or an e-mail address: up to 64 letters, digits and any of . _ - + @ \\",
            )
        return cls(owner, None if ttl is None else _seconds(ttl))

    def __bool__(self) -> bool:
        return (self.owner, self.seconds) != (None, None)


#: What a command says that names neither.
UNSAID = Terms()


def _seconds(ttl: str) -> int:
    if ttl == "never":
        return NEVER
    try:
        seconds = parse_time(ttl)
    except ValueError as error:
        raise LabError(
            f"--ttl {ttl!r} is not a length of time", "use a number and a unit, 90min, 8h, 1.5d, or never"
        ) from error
    if seconds > LONGEST:
        raise LabError(f"--ttl {ttl!r} is more than ten years", "use --ttl never")
    return seconds


def user() -> str:
    """Who runs labctl: who called sudo, or the login name; empty where neither has a name that can be recorded."""
    names = (os.environ.get("SUDO_USER", ""), _login())
    return next((name for name in names if _NAME.fullmatch(name)), "")


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def granted(seconds: int) -> Lease:
    """A lease that begins now."""
    return Lease(until=time.time() + seconds, seconds=seconds, boot=_boot(), began=_clock())


def begun(terms: Terms, like: Lab | None = None) -> dict[str, Any]:
    """What these terms put into the record of a new lab.

    :param like: has what the terms do not say.
    """
    before = {key: like.meta[key] for key in (OWNER, LEASE) if key in like.meta} if like else {}
    owner = {OWNER: terms.owner} if terms.owner else {}
    return {OWNER: user(), **before, **owner, **_lease(terms)}


def renew(lab: Lab, terms: Terms) -> None:
    """Apply terms to a recorded lab; the caller holds its lock."""
    if terms:
        owner = {} if terms.owner is None else {OWNER: terms.owner}
        lab.meta = {**lab.meta, **owner, **_lease(terms)}
        lab.save()


def _lease(terms: Terms) -> dict[str, Any]:
    if terms.seconds is None:
        return {}
    return {LEASE: None if terms.seconds == NEVER else granted(terms.seconds).model_dump()}


def owner(lab: Lab) -> str:
    """The lab's owner; empty for a lab of a labctl that did not record one."""
    return str(lab.meta.get(OWNER, ""))


def left(lab: Lab) -> float | None:
    """Seconds until a lab expires, less than 0 when it has; None when it does not."""
    found: Mapping[str, Any] | None = lab.meta.get(LEASE)
    if found is None:
        return None
    lease = Lease.model_validate(found)
    return lease.began + lease.seconds - _clock() if lease.boot == _boot() else lease.until - time.time()


def expired(lab: Lab) -> bool:
    """True for a lab that is kept no longer."""
    seconds = left(lab)
    return seconds is not None and seconds <= 0


def _clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return _BOOT_ID.read_text().strip()
