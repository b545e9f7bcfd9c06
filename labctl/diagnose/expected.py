"""What a lab's plan says of every node, as tests: drift of files, packages and units is what they find."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labctl.diagnose.model import Finding, Level, Mend
from labctl.diagnose.rows import ROWS
from labctl.operations.look import Look, looks
from labctl.operations.node import Command, Database, Distributions, File, Operation, Packages, Unit, Wait
from labctl.plan.planner import Plan
from labctl.records.lab import Lab
from labctl.secret import HIDDEN, MARK, Redactor, Secret
from labctl.services import SERVICES
from labctl.services.base import Context

#: Parts of the infrastructure: what their daemons' failure means.
PARTS = {
    "chrony": (Level.TIME, "B1"),
    "mariadb": (Level.DATABASE, "A4"),
    "rabbitmq": (Level.MESSAGING, "A10"),
    "memcached": (Level.CACHE, "B8"),
    "redis": (Level.CACHE, "B63"),
    "etcd": (Level.CACHE, "B63"),
}
#: Rows of single settings, by a pattern for "PATH [SECTION] OPTION"; the first that matches counts.
_SETTINGS = (
    (r"^/etc/hosts\b", "B9"),
    (r"\[(api_)?database\] connection$", "A1"),
    (r"\[keystone_authtoken\]", "A11"),
    (r"\[placement\]", "B19"),
    (r"transport_url|rabbit_password", "B11"),
    (r"metadata_proxy_shared_secret", "B31"),
    (r"local_ip", "B33"),
    (r"my_ip", "B30"),
    (r"physical_interface_mappings|bridge_mappings|flat_networks", "A26"),
    (r"volume_group|enabled_backends", "A29"),
    (r"swift_hash_path", "B55"),
    (r"nova\.conf \[DEFAULT\] host$", "L9"),
)
_SIDE = re.compile(r"^([<>]) (?:(\[[^]]*\]) )?(?:([^=\s]+) = )?(.*)$")


@dataclass(frozen=True)
class Expected:
    """One test on a node: the level and service that it is about, and the units that read what it tests."""

    look: Look
    level: Level
    service: str
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Owners:
    """Which service an operation belongs to, by its title; and a unit, by its name."""

    titles: Mapping[str, str]
    units: Mapping[str, str]

    def of(self, operation: Operation) -> str:
        """The service of an operation, or the part of the infrastructure."""
        known = self.units.get(operation.name) if isinstance(operation, Unit) else self.titles.get(operation.title)
        return known or _part(operation)


def owners(ctx: Context) -> Owners:
    """The owners of all operations of a lab."""
    titles: dict[str, str] = {}
    units: dict[str, str] = {}
    for part in PARTS:
        units.update(dict.fromkeys(ctx.base.units.get(part, ()), part))
    for service in SERVICES:
        if not ctx.lab.has(*service.components):
            continue
        for node in ctx.lab.nodes.values():
            titles.update({operation.title: service.name for operation in service.configure(ctx, node)})
            for daemon in service.daemons(ctx, node):
                units.update(dict.fromkeys(ctx.base.units[daemon.name], service.name))
                titles.update({what: service.name for what, _ in daemon.ready})
                titles.update({command.title: service.name for command in daemon.before})
        titles.update({database.title: service.name for database in service.databases(ctx)})
        titles.update({chain.title: service.name for _, chain in service.populate(ctx)})
    return Owners(titles, units)


def _level(operation: Operation, service: str) -> Level:
    match operation:
        case Packages() | Distributions():
            return Level.PACKAGES
        case Database():
            return Level.SCHEMA
        case Unit() | Wait() | Command() if service in PARTS:
            return PARTS[service][0]
        case Unit() | Wait() if service == "keystone":
            return Level.IDENTITY
        case Unit():
            return Level.SERVICE
        case Wait():
            return Level.API
        case File(path="/etc/hosts"):
            return Level.NETWORK
    return Level.FILES


def of_node(plan: Plan, node: str, finished: Iterable[str], owners: Owners) -> list[Expected]:
    """The tests of everything that the finished stages did on a node."""
    operations = [operation for stage in plan.stages if stage.name in finished for operation in stage.on(node)]
    started = {o.name: o for o in operations if isinstance(o, Unit)}
    made = []
    for look in looks(tuple(operations)):
        operation = look.operation
        service = owners.of(operation)
        readers = tuple(
            name for name, unit in started.items() if isinstance(operation, File) and operation.content in unit.inputs
        ) or tuple(name for name in started if owners.units.get(name) == service)
        made.append(Expected(look, _level(operation, service), service, readers))
    return made


def _part(operation: Operation) -> str:
    """The part of the infrastructure that an operation mentions, or nothing."""
    text = getattr(operation, "path", operation.title)
    words = {
        "chrony": "chrony",
        "mariadb": "mariadb",
        "my.cnf": "mariadb",
        "database answers": "mariadb",
        "rabbitmq": "rabbitmq",
        "memcached": "memcached",
        "redis": "redis",
        "etcd": "etcd",
        "clock": "chrony",
    }
    return next((part for word, part in words.items() if word in text), "node")


def found(
    lab: Lab, node: str, expected: Expected, said: tuple[str, ...], secrets: Mapping[str, Secret]
) -> list[Finding]:
    """The findings of a failed test."""
    operation, hide = expected.look.operation, Redactor(s.reveal() for s in secrets.values())
    mend = _mend(node, expected)
    shown = lab.up() if mend is None else f"labctl diagnose {lab.name} --fix"
    lines = [hide(line) for line in said] or ["differs"]

    def finding(row: str, level: Level, text: str, fix: str = shown) -> Finding:
        return Finding(ROWS[row], level, node, expected.service, text, fix, mend)

    match operation:
        case File():
            return [finding(row_of(text), expected.level, text) for text in differences(operation, said, hide)]
        case Unit():
            shell = f"systemctl restart {operation.name}"
            if added := re.match(r"changed by (\S+);", lines[0]):
                shell = f"sh -c 'rm {added[1]}; systemctl daemon-reload; {shell}'"
            fix = f"labctl ssh {lab.name} {node} -- {shell}"
            row = PARTS[expected.service][1] if expected.service in PARTS else "B63"
            row = "A8" if expected.service == "keystone" else row
            return [finding(row, expected.level, f"{operation.name} {'; '.join(lines)}", fix)]
        case Wait():
            row = PARTS[expected.service][1] if expected.service in PARTS else "B63"
            row = {"keystone": "A8", "horizon": "A41"}.get(expected.service, row)
            return [finding(row, expected.level, f"not so: {operation.title}: {lines[-1]}")]
        case Database():
            row = "A2" if any("1049" in line or "Unknown database" in line for line in said) else "A1"
            return [finding(row, expected.level, f"{operation.title}: {lines[-1]}")]
        case Packages() | Distributions():
            return [finding("L1", expected.level, "; ".join(lines))]
    return [finding(_row_of_step(operation), expected.level, f"{operation.title}: {'; '.join(lines)}")]


def _row_of_step(operation: Operation) -> str:
    title = operation.title
    rows = {"mount /srv/node": "A37", "rabbitmq user": "A10", " ring": "B54", "volume group": "A29"}
    return next((row for words, row in rows.items() if words in title), "L4")


def row_of(text: str) -> str:
    """The row of a difference."""
    if "owner and mode" in text:
        return "B65"
    return next((row for pattern, row in _SETTINGS if re.search(pattern, text.partition(": ")[0])), "B13")


def _mend(node: str, expected: Expected) -> Mend | None:
    """Run the operation itself again, where that cannot lose data."""
    operation = expected.look.operation
    match operation:
        case Wait() | Packages() | Distributions():
            return None
        case Unit():
            enable = f"systemctl unmask -q {operation.name}; systemctl enable -q {operation.name} || true"
            return Mend(node, (Command(f"enable {operation.name}", enable),), (operation.name,))
    return Mend(node, (operation,), expected.units)


def differences(wanted: File, said: tuple[str, ...], hide: Redactor) -> list[str]:
    """What differs in a file, option by option, in words and without secrets.

    :param said: lines of diff(1) over both files' settings (``<`` is the plan's), or a sentence.
    """
    planned: dict[tuple[str, str], list[str]] = {}
    there: dict[tuple[str, str], list[str]] = {}
    texts = []
    for line in said:
        if (side := _SIDE.match(line)) is None:
            texts.append(f"{wanted.path}: {line}")
            continue
        key = (side[2] or "", side[3] or "")
        (planned if side[1] == "<" else there).setdefault(key, []).append(side[4])
    options = _options(wanted)
    marked = {key: _with_any_secret(value) for key, value in options.items() if MARK.search(value)}
    for section in dict.fromkeys(section for section, _ in [*planned, *there] if section):
        own = {key for key in options if key[0] == section}
        if own and own <= planned.keys() - there.keys():
            texts.append(f"{wanted.path} {section}: the section is missing")
        elif not own:
            texts.append(f"{wanted.path} {section}: the section was added by hand")
        else:
            continue
        planned = {key: values for key, values in planned.items() if key[0] != section}
        there = {key: values for key, values in there.items() if key[0] != section}
    for key in dict.fromkeys([*planned, *there]):
        section, option = key
        place = " ".join(word for word in (wanted.path, section, option) if word)
        if key not in there:
            texts.append(f"{place}: is missing" if option else f"{place}: lacks '{hide(planned[key][0])}'")
        elif key not in planned:
            texts.append(
                f"{place}: was added by hand" if option else f"{place}: has '{hide(there[key][0])}' in addition"
            )
        elif key in marked and re.fullmatch(marked[key], there[key][-1]):
            texts.append(f"{place}: the password differs from the lab's secret")
        else:
            value = HIDDEN if key in marked and "://" not in there[key][-1] else hide(there[key][-1])
            texts.append(f"{place}: is '{value}', not '{hide(planned[key][-1])}'")
    return texts or [f"{wanted.path}: differs"]


def _options(wanted: File) -> dict[tuple[str, str], str]:
    """The options of a file by section and name, with their planned values."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in wanted.content.splitlines():
        if line.startswith("["):
            section = line.strip()
        elif " = " in line and not line.startswith("#"):
            option, _, value = line.partition(" = ")
            found[(section, option.strip())] = value
    return found


def _with_any_secret(value: str) -> str:
    """A planned value as a pattern in which its secrets may be anything."""
    return ".+".join(re.escape(part) for part in MARK.split(value)[:: 1 + MARK.groups])
