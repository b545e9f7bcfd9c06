"""The logs of a lab's nodes: the journal and the services' own files, merged by time.

They are read from the node's file system where this host can read it, even if the node hangs or is cut
off; over SSH elsewhere. The same script does both, below $LABCTL_ROOT.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from calendar import month_abbr
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from pathlib import PurePosixPath

from labctl.errors import BrokenLabError, LabError
from labctl.host import process, state
from labctl.host.threads import side_by_side
from labctl.progress import warn
from labctl.records.lab import Lab
from labctl.secret import Redactor

ANSWER = 10  # seconds until a node must answer on SSH
READ = 60  # seconds to read one node's logs
#: Bytes of the end of each file, and lines of the end of the journal, that are read.
FILE_BYTES = 8 * 2**20
JOURNAL_LINES = 50_000
#: The same for each poll when following; the poll interval, and how late a line may be written (seconds).
FOLLOW_BYTES = 2**18
FOLLOW_EVERY = 1.0
LATE = 3.0
JOURNAL = "journal"

_SECTION = "##section "
_ISO = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[ T]+(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)?\s*")
_C_TIME = re.compile(r"\[[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d+) (\d\d):(\d\d):(\d\d)(?:\.(\d+))? (\d{4})\]")
_CLF = re.compile(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\]")
_ERLANG = re.compile(r"=[A-Z ]+ REPORT==== +(\d+)-([A-Z][a-z]{2})-(\d{4})::(\d\d):(\d\d):(\d\d) ===\s*")
_MONTHS = {month_abbr[number]: number for number in range(1, 13)}
_SHORT_UNIX = re.compile(r"(\d+\.\d+) \S+ ([^:]+?)(?:\[\d+\])?: ?(.*)", re.DOTALL)


@dataclass(frozen=True, order=True)
class Line:
    """One entry: ``at`` seconds since the epoch; ``source`` a daemon of the journal, or a file below /var/log."""

    at: float
    node: str
    source: str
    text: str


def redactor(lab: Lab) -> Redactor:
    """A redactor for every secret that the lab has, or had in one of its layers."""
    values = {*lab.spec.passwords.values(), *(secret.reveal() for secret in lab.secrets().values())}
    for path in lab.directory.glob("layers/*/secrets.json"):
        values.update(state.read(path, dict[str, str], f"labctl down {lab.name}").values())
    return Redactor(values)


def script(since: float | None = None, units: Iterable[str] = (), file_bytes: int = FILE_BYTES) -> str:
    """The shell script that prints a node's logs as sections.

    :param since: seconds since the epoch.
    :param units: only journal entries of these units.
    :param file_bytes: bytes to read from the end of each file.
    """
    words = {
        "since": "" if since is None else str(int(since)),
        "units": " ".join(f"--unit={shlex.quote(u)}" for u in units),
        "bytes": str(file_bytes),
        "lines": str(JOURNAL_LINES),
    }
    heads = "".join(f"{key}={shlex.quote(value)}\n" for key, value in words.items())
    return heads + files("labctl.lab").joinpath("logs.sh").read_text()


def read(lab: Lab, node: str, text: str, seconds: float = READ) -> str:
    """Run a script that reads a node's files, wherever they are readable.

    :raises LabError: they are not, or the script timed out.
    """
    root = lab.driver.files(lab, node)
    if root is not None:
        env = {**os.environ, "LABCTL_ROOT": str(root)}
        return process.run(["sh"], stdin=text, timeout=seconds, env=env, check=False).stdout
    if not lab.driver.machine(lab, node).running:
        raise BrokenLabError(
            f"{node} of {lab.name} is not running, and its disk cannot be read", f"labctl repair {lab.name}"
        )
    with lab.driver.connect(lab, node, ANSWER) as session:
        return session.run(text, timeout=seconds).stdout


def sections(text: str) -> dict[str, tuple[str, str]]:
    """Parse a script's output: section to (the rest of its header, its text)."""
    found: dict[str, tuple[str, str]] = {}
    for part in text.removeprefix(_SECTION).split(f"\n{_SECTION}") if text.startswith(_SECTION) else ():
        head, _, body = part.partition("\n")
        name, _, more = head.partition("\t")
        found[name] = (more, body)
    return found


# --- times -----------------------------------------------------------------------------------------


def stamp(text: str, zone: timezone) -> tuple[float | None, str]:
    """The timestamp of a log line, and the line without a leading timestamp.

    Supports ISO 8601 and its variants (oslo.log, MariaDB, RabbitMQ, rsync), C's (Apache's errors, uWSGI), the
    common log format's and Erlang's (RabbitMQ 3.6).

    :param zone: for timestamps without a zone.
    """
    if found := _ISO.match(text):
        year, month, day, hour, minute, second, fraction, east = found.groups()
        where = zone if east is None else UTC if east == "Z" else offset(east)
        return _epoch((year, month, day, hour, minute, second), fraction, where), text[found.end() :]
    if found := _C_TIME.search(text, 0, 400):
        name, day, hour, minute, second, fraction, year = found.groups()
        return _epoch((year, str(_MONTHS[name]), day, hour, minute, second), fraction, zone), text
    if found := _CLF.search(text, 0, 400):
        day, name, year, hour, minute, second, east = found.groups()
        return _epoch((year, str(_MONTHS[name]), day, hour, minute, second), None, offset(east)), text
    if found := _ERLANG.match(text):
        day, name, year, hour, minute, second = found.groups()
        return _epoch((year, str(_MONTHS[name]), day, hour, minute, second), None, zone), text[found.end() :]
    return None, text


def offset(text: str) -> timezone:
    """An offset from UTC, as ``+0100`` or ``+01:00``."""
    digits = text.replace(":", "")
    minutes = int(digits[1:3]) * 60 + int(digits[3:5])
    return timezone(timedelta(minutes=-minutes if digits[0] == "-" else minutes))


def _epoch(parts: tuple[str, ...], fraction: str | None, zone: timezone) -> float:
    try:
        year, month, day, hour, minute, second = map(int, parts)
        whole = datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp()
    except ValueError:  # only looks like a timestamp
        return 0.0
    return whole + (float(f"0.{fraction}") if fraction else 0.0)


def since(text: str | None) -> float | None:
    """Parse --since: an age (30s, 10m, 2h, 1d), or a time of today or of a given day.

    :raises LabError: it is none of these.
    """
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip()):
        return time.time() - float(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]
    today = datetime.now().astimezone()
    for pattern in ("%H:%M", "%H:%M:%S"):
        try:
            clock = datetime.strptime(text.strip(), pattern)
        except ValueError:
            continue
        return today.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0).timestamp()
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError as error:
        raise LabError(f"--since {text} is not valid; use 10m, 2h, 09:30 or 2026-01-31") from error


# --- lines -----------------------------------------------------------------------------------------


def journal_lines(node: str, text: str) -> Iterator[Line]:
    """The entries of ``journalctl -o short-unix``; continuation lines of an entry are indented."""
    entry: list[str] = []
    for line in [*text.splitlines(), "0.0 end:"]:
        if entry and not line.startswith(" "):
            if found := _SHORT_UNIX.fullmatch("\n".join(entry)):
                yield Line(float(found[1]), node, found[2], found[3])
            entry = []
        entry.append(line)


def file_lines(node: str, path: str, changed: float, text: str, zone: timezone) -> Iterator[Line]:
    """The lines of a file; one without a timestamp takes the previous line's, else the first one in the file.

    :param changed: when the file was last written, for a file without timestamps.
    """
    pairs = [stamp(line, zone) for line in text.splitlines()]
    at = next((when for when, _ in pairs if when is not None), changed)
    for when, rest in pairs:
        at = when if when is not None else at
        yield Line(at, node, path, rest)


def belongs(path: str, unit: str, known: Iterable[str]) -> bool:
    """True when a file below /var/log is the log of a unit.

    Files are named after their unit (Debian), after its suffix (CentOS: ``neutron/l3-agent.log``), or are in a
    directory that belongs to one service alone (RabbitMQ, Apache, libvirt).

    :param known: every unit, to tell whether a directory belongs to one service.
    """
    where = PurePosixPath(path)
    directory, name = where.parts[0] if len(where.parts) > 1 else "", _bare(unit)
    if where.stem in (name, name.removeprefix(f"{directory}-")):
        return True
    own = {_bare(u) for u in known if _bare(u).split("-")[0] in (directory, f"{directory}d")}
    return own == {name}


def _bare(unit: str) -> str:
    return unit.removesuffix(".service").removeprefix("openstack-")


def units(lab: Lab, service: str) -> tuple[str, ...]:
    """The units of a daemon, of all daemons of a project, or of a unit's name; empty for any other word."""
    known: Mapping[str, tuple[str, ...]] = lab.context.base.units
    if service in known:
        return known[service]
    if whole := [u for daemon, names in known.items() if daemon.startswith(f"{service}-") for u in names]:
        return tuple(whole)
    return (service,) if any(service in names for names in known.values()) else ()


def of_node(lab: Lab, node: str, after: float | None, service: str | None, file_bytes: int = FILE_BYTES) -> list[Line]:
    """A node's lines by time, secrets redacted.

    :param after: seconds since the epoch.
    :param service: a daemon by its upstream name, a project, or a unit.
    :param file_bytes: bytes to read from the end of each file.
    :raises LabError: the node's logs cannot be read.
    """
    wanted = (units(lab, service) or (service,)) if service else ()
    every = [u for names in lab.context.base.units.values() for u in names]
    found = sections(redactor(lab)(read(lab, node, script(after, wanted, file_bytes))))
    zone = offset(found.pop("zone", ("+0000", ""))[0] or "+0000")
    lines: list[Line] = []
    for name, (changed, text) in found.items():
        if name == JOURNAL:
            lines += journal_lines(node, text)
        elif not wanted or any(belongs(name, unit, every) for unit in wanted):
            lines += file_lines(node, name, float(changed or 0), text, zone)
    return sorted((line for line in lines if after is None or line.at >= after), key=lambda line: line.at)


def collect(
    lab: Lab, nodes: Iterable[str], after: float | None, service: str | None, file_bytes: int = FILE_BYTES
) -> list[Line]:
    """The lines of several nodes by time; warns about a node whose logs cannot be read.

    :raises LabError: none of them can be read.
    """
    names = list(nodes)
    waiting = side_by_side(lambda node: of_node(lab, node, after, service, file_bytes), names)
    lines: list[Line] = []
    problems: list[LabError] = []
    for node, future in zip(names, waiting, strict=True):
        try:
            lines += future.result()
        except LabError as error:
            problems.append(error)
            warn(node, f"no logs: {error.message}")
    if len(problems) == len(names):
        raise problems[0]
    return sorted(lines, key=lambda line: line.at)


def follow(lab: Lab, nodes: Iterable[str], after: float, service: str | None) -> Iterator[list[Line]]:
    """Yield the new lines of several nodes until the caller stops; each line once.

    A line written more than :data:`LATE` seconds after its timestamp may be missed.

    :param after: seconds since the epoch.
    :raises LabError: none of the nodes can be read.
    """
    names = list(nodes)
    known: Counter[Line] = Counter()
    while True:
        began = time.time()
        seen = Counter(collect(lab, names, after, service, FOLLOW_BYTES))
        if fresh := sorted((seen - known).elements(), key=lambda line: line.at):
            yield fresh
        after = max(after, began - LATE)
        known = Counter({line: count for line, count in seen.items() if line.at >= after})
        time.sleep(max(0.0, began + FOLLOW_EVERY - time.time()))
