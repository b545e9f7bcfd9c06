"""Lines of logs that tell of a known cause (part C of the troubleshooting tables): hints, never proofs.

What a test proves is a finding; a line of a log may be old, or about a request that was meant to fail. So a hint comes
after every finding, and is folded under one of the same cause.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from labctl.components import Component
from labctl.diagnose.expected import Owners
from labctl.diagnose.model import Finding, Level, Row
from labctl.lab import logs
from labctl.operations.node import quote
from labctl.records.lab import Lab
from labctl.secret import Redactor
from labctl.services import SERVICES
from labctl.services.base import Context
from labctl.topology.spec import NodeSpec
from labctl.topology.stages import STAGES

#: Bytes of the end of each log that are searched, and seconds that are looked back.
TAIL, LOOK_BACK = 2 * 2**20, 600
#: Seconds after a start of a node in which daemons complain of others that do not answer yet.
CALM = 180
#: A file of the lab's directory, as old as its last mending.
MENDED = "mended"
#: Characters of a line that are shown, and of them before the words that matched.
SHOWN, BEFORE = 300, 120
#: Characters of a line that come from the node; what may be cut in two at its end is not shown.
READ, CUT = 8000, 200
#: Where daemons log that are no OpenStack service; swift and MariaDB log into the journal.
_DIRECTORIES = {"mariadb": ("mariadb", "mysql"), "rabbitmq": ("rabbitmq",)}
_JOURNAL = ("swift", "mariadb")
#: MariaDB's errors but deadlocks, which services try again: refused, no such database, no connection.
_DATABASE = r"OperationalError[^0-9]+(1044|1045|1049|1130|2002|2003|2013)|DBConnectionError"
_OPENSTACK = tuple(service.name for service in SERVICES if service.name not in ("swift", "horizon"))


@dataclass(frozen=True)
class Pattern:
    """A line of some services' logs, as a regular expression that grep -E and Python read alike.

    With ``ordinary`` a user's request or a busy machine can cause it, so it says something only beside a finding, or
    when asked for.
    """

    row: Row
    services: tuple[str, ...]
    words: str
    ordinary: bool = False


def _pattern(
    name: str, services: str, words: str, cause: str, of: str = "", *, ordinary: bool = False, source: str = "part C"
) -> Pattern:
    row = Row(name, "line of a log", cause, source, tuple(of.split()))
    return Pattern(row, tuple(services.split()) or _OPENSTACK, words, ordinary)


#: Of the patterns that match a line, the first counts.
PATTERNS = (
    _pattern("C1", "", "Too many connections", "MariaDB's max_connections are used up", "A4"),
    _pattern("C2", "mariadb", "Too many open files", "MariaDB's unit allows too few open files", "L3"),
    _pattern("C3", "", _DATABASE, "the database refuses, or does not answer", "A1 A2 A4"),
    _pattern("C4", "rabbitmq", "ACCESS_REFUSED|invalid credentials", "user or password differ", "A10 B11"),
    _pattern("C5", "", "ACCESS_REFUSED", "RabbitMQ refuses the user of transport_url", "A10 B11"),
    _pattern("C6", "", "AMQP server .* is unreachable", "RabbitMQ is down, or its address is wrong", "A10 B9"),
    _pattern(
        "C7",
        "",
        "MessagingTimeout",
        "who should answer is down, or the queue is blocked",
        "A10 A19 A24 B1",
        ordinary=True,
    ),
    _pattern("C8", "keystone", "Malformed endpoint", "an endpoint's URL has a damaged template", "A12"),
    _pattern("C9", "keystone", "key_repository does not exist", "fernet keys are missing or unreadable", "A8"),
    _pattern("C10", "keystone", "Could not find", "a name that does not exist in keystone", "A11 A13", ordinary=True),
    _pattern("C11", "", "Identity server rejected authorization", "[keystone_authtoken] is wrong", "A11"),
    _pattern(
        "C12",
        "",
        "Unable to validate token|Authorization failed for token",
        "an expired token, or one of other fernet keys",
        "A8 A11",
        ordinary=True,
    ),
    _pattern("C13", "glance", "StorageFull|No space left on device", "the image store is full", "A15 L2"),
    _pattern("C14", "glance", "Permission denied", "the image store is not glance's", "A15"),
    _pattern("C15", "horizon", "client denied by server configuration", "Apache's access rules lack the API"),
    _pattern("C16", "nova", "No valid host", "no host is up, enabled and large enough", "B21 A18 A19", ordinary=True),
    _pattern("C17", "nova", "is not mapped to any cell", "discover_hosts did not run", "A18"),
    _pattern(
        "C18",
        "nova",
        "PortBindingFailed|Binding failed for port",
        "no agent can bind the port",
        "A24 A26",
        ordinary=True,
    ),
    _pattern(
        "C19", "nova", "Virtual Interface creation failed", "the layer-2 agent did not answer", "A24", ordinary=True
    ),
    _pattern("C20", "neutron", "Failed to bind port", "no live agent has the physical network", "A24 A26"),
    _pattern("C21", "neutron", "Agent terminated", "the agent's configuration is wrong", "A24 A26"),
    _pattern("C22", "neutron", "invalid local_ip", "local_ip is not an address of the node", "B33"),
    _pattern("C23", "neutron", "An interface driver must be specified", "interface_driver is not set", "A24"),
    _pattern("C24", "neutron", "is experimental and has to be", "[experimental] lacks the driver", "A24"),
    _pattern(
        "C25",
        "cinder",
        "Volume [Gg]roup .* does not exist|Volume [Gg]roup .* not found",
        "the volume group is missing",
        "A29",
    ),
    _pattern("C26", "cinder", "No valid backend", "no back end is up and large enough", "A30 A29", ordinary=True),
    _pattern("C27", "cinder", "does not specify", "enabled_backends names a section without a driver", "A30"),
    _pattern("C28", "cinder", "ConflictNovaUsingAttachment", "a server holds the volume", ordinary=True),
    _pattern(
        "C29", "swift", "is not mounted|ERROR 507|Insufficient Storage", "a disk is not mounted, or full", "A37 L2"
    ),
    _pattern("C30", "swift", "ERROR with|Timeout", "a storage server is down or slow", "A37 B63", ordinary=True),
    _pattern("C31", "heat", "Missing required credential", "the stack domain's admin is not set", "A40"),
    _pattern("C32", "heat", "Authorization failed", "the account of heat is refused", "A40 A11", ordinary=True),
    _pattern("C33", "horizon", "DisallowedHost", "ALLOWED_HOSTS lacks the name in the URL", "A41", ordinary=True),
    _pattern("C34", "horizon", "Unable to establish connection", "the dashboard cannot reach keystone", "A8 A41"),
)


@dataclass(frozen=True)
class Window:
    """Which lines count: since when (seconds since the epoch), and how long after a node's start none does.

    ``asked`` when a person chose it.
    """

    begin: float
    calm: float = 0
    asked: bool = False

    @classmethod
    def of(cls, lab: Lab, since: float | None) -> Window:
        """The window of a lab: from a given time, or its last minutes, if it was ready then."""
        if since is not None:
            return cls(since, asked=True)
        calm = CALM * lab.driver.patience
        done = {record.name: record.finished for record in lab.journal().stages}
        ready = max(done.values(), default=0.0) + (calm if STAGES[-1] in done else 0)
        mark = lab.directory / MENDED
        well = mark.stat().st_mtime + calm if mark.exists() else 0.0
        return cls(max(time.time() - LOOK_BACK, ready, well), calm)


@dataclass(frozen=True)
class Search:
    """The search for a service's patterns in its logs of a node: one function of look.sh."""

    service: str
    patterns: tuple[Pattern, ...]
    units: tuple[str, ...]
    window: Window

    @property
    def title(self) -> str:
        return f"logs of {self.service}"

    def shell(self) -> str:
        directories = _DIRECTORIES.get(self.service) or next(s.logs for s in SERVICES if s.name == self.service)
        units = [f"--unit={unit}" for unit in self.units] if self.service in _JOURNAL else []
        numbers = (str(round(number)) for number in (self.window.begin, self.window.calm, TAIL, READ))
        words = (*numbers, " ".join(directories), " ".join(units), *(pattern.words for pattern in self.patterns))
        return " ".join(("look_log", *map(quote, words)))

    def guide(self) -> str:
        return self.shell()


def of_node(ctx: Context, node: NodeSpec, owners: Owners, window: Window) -> tuple[Search, ...]:
    """The searches of one node: of the services that run on it."""
    infrastructure = {"mariadb": Component.MARIADB, "rabbitmq": Component.RABBITMQ}
    here = [service.name for service in SERVICES if node.has(*service.components)]
    here += [part for part, component in infrastructure.items() if node.has(component)]
    made = []
    for service in here:
        units = tuple(unit for unit, owner in owners.units.items() if owner == service)
        made.append(Search(service, tuple(p for p in PATTERNS if service in p.services), units, window))
    return tuple(made)


def found(lab: Lab, node: str, search: Search, said: Iterable[str], hide: Redactor) -> Iterator[Finding]:
    """The newest line of each pattern in the window, as hints."""
    newest: dict[int, tuple[float, str, str]] = {}
    for number, file, at, text in _lines(said, search.window):
        newest[number] = max(newest.get(number, (0.0, "", "")), (at, file, text))
    for number, (at, file, text) in sorted(newest.items()):
        pattern = search.patterns[number]
        when = datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
        seen = f"{file} at {when}: {_shown(hide(text), pattern.words)}"
        since = datetime.fromtimestamp(at - 5).astimezone().isoformat(timespec="seconds")
        fix = f"labctl logs {lab.name} {node} {search.service} --since {since}"
        yield Finding(pattern.row, Level.LOG, node, search.service, seen, fix)


def _lines(said: Iterable[str], window: Window) -> Iterator[tuple[int, str, float, str]]:
    """Number of the pattern, file, time and text of the lines whose time is in the window."""
    for line in said:
        number, _, rest = line.partition("\t")
        begin, zone, file, text = (rest.split("\t", 3) + [""] * 3)[:4]
        if not (number.isdigit() and begin.isdigit()):
            continue
        text = text[:-CUT] if len(text) >= READ else text
        if file == logs.JOURNAL:
            entry = next(logs.journal_lines("", text), None)
            at, text = (entry.at, entry.text) if entry else (None, text)
        else:
            at, text = logs.stamp(text, logs.offset(zone))
        if at is not None and at >= max(window.begin, int(begin)):
            yield int(number), file, at, text


def _shown(text: str, words: str) -> str:
    """The part of a line around the words that matched."""
    match = re.search(words, text)
    begin = max(0, match.start() - BEFORE) if match and match.end() > SHOWN else 0
    part = text[begin : begin + SHOWN]
    return f"{'…' if begin else ''}{part}{'…' if begin + SHOWN < len(text) else ''}"


def counting(found: list[Finding], window: Window) -> list[Finding]:
    """The findings without hints that say nothing: ordinary ones, unless asked for, or beside a proof."""
    ordinary = {pattern.row for pattern in PATTERNS if pattern.ordinary}
    if window.asked or any(finding.level is not Level.LOG for finding in found):
        return found
    return [finding for finding in found if finding.row not in ordinary]
