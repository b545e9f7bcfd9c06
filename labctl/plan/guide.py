"""A lab's plan as an install document: chapter by chapter, node by node, with the purpose of each step.

The same operations that ``up`` runs, written as manual steps, so the document always matches the code.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labctl.components import Component
from labctl.operations import openstack
from labctl.operations.networks import ProviderNetwork, SelfServiceNetwork
from labctl.operations.node import Database, File, Item, Operation, Unit, Wait, flatten
from labctl.plan.planner import Plan, Stage, plan, present, served
from labctl.plan.words import Words
from labctl.secret import MARK
from labctl.services import nova
from labctl.services.base import Context, Service
from labctl.topology.proxy import SECRET
from labctl.topology.spec import LabSpec
from labctl.topology.units import show_size

#: Placeholder for the node in a prompt, until nodes with the same step are merged.
_PROMPT = "\x02node\x03"
#: Words that open and close blocks in the shell.
_OPEN, _CLOSE = ("if", "for", "while", "until", "case", "{", "("), ("fi", "done", "esac", "}", ")")
#: File suffix -> language of its code block.
_KINDS = {".conf": "ini", ".ini": "ini", ".cnf": "ini", ".py": "python", ".awk": "awk", ".service": "ini"}


@dataclass(frozen=True)
class Step:
    """Operations with one purpose; ``nodes`` maps each node to its own."""

    purpose: str
    nodes: Mapping[str, tuple[Operation, ...]]


def placeholder(text: str) -> str:
    """Replace secrets with their names, as the install guides print them: ``GLANCE_PASS``."""
    return MARK.sub(lambda found: found[1], text)


def guide(spec: LabSpec, language: str = "en") -> str:
    """The document, in Markdown.

    :param language: of headings and remarks: ``en`` or ``ko``.
    :raises LabError: the language is not supported.
    """
    words = Words.of(language)
    ctx = Context.of(spec)
    made = plan(ctx)
    parts = [_title(ctx, made, words)]
    number = 0
    for heading, purpose, steps in _chapters(ctx, made):
        told = [step_text(ctx, step, words) for step in steps]
        if any(told):
            number += 1
            parts.append(f"## {number}. {words.say(heading)}\n\n{words.say(purpose)}\n")
            parts += [text for text in told if text]
    return "\n".join(parts).rstrip("\n") + "\n"


def _title(ctx: Context, made: Plan, words: Words) -> str:
    lab, say = ctx.lab, words.say
    lines = [f"# {lab.name}: {ctx.release.title}, {ctx.base.title}", "", say("intro"), ""]
    lines += [f"`labctl guide {lab.topology} --release {lab.release} --base {lab.base}`", ""]
    lines += [f"## {say('The lab')}", "", f"| {say('node')} | {say('cards')} | {say('disks')} | {say('runs')} |"]
    lines += ["|---|---|---|---|"]
    for node in lab.nodes.values():
        cards = ", ".join(f"`{c.name}` {c.network} {c.address or say('no address')} ({c.mac})" for c in node.interfaces)
        disks = ", ".join([show_size(node.disk), *(f"`{d.name}` {show_size(d.size)}" for d in node.disks)])
        lines.append(f"| {node.name} | {cards} | {disks} | {', '.join(node.runs)} |")
    lines += ["", say("disks-are"), "", f"## {say('Passwords')}", "", say("passwords-are"), ""]
    lines += [f"- `{name}`" for name in sorted(made.secrets() - {SECRET})]
    return "\n".join([*lines, ""])


def _chapters(ctx: Context, made: Plan) -> Iterator[tuple[str, str, tuple[Step, ...]]]:
    """(heading, purpose, steps) of every chapter."""
    stages = {s.name: s for s in made.stages}
    for name, parts in (("prepare", ()), ("packages", ()), ("infrastructure", ("sql",))):
        steps = (Step("", flat(stages[part].nodes)) for part in (*parts, name))
        yield name, f"{name}-is", tuple(steps)
    for service in present(ctx):
        yield service.name, f"{service.name}-is", tuple(_service(ctx, service, stages))
    if "settle" in stages:
        settled = {
            node: tuple(o for o in items if o not in nova.map_hosts(ctx))
            for node, items in flat(stages["settle"].nodes).items()
        }
        yield "settle", "settle-is", (Step("", settled),)
    if "fixtures" in stages:
        calls = (*stages["fixtures"].api, *served(ctx))
        yield "fixtures", "fixtures-is", (Step("", {ctx.identity_host: as_client(ctx, calls)}),)


def flat(nodes: Mapping[str, tuple[Item, ...]]) -> dict[str, tuple[Operation, ...]]:
    return {node: flatten(tuple(items)) for node, items in nodes.items()}


def _service(ctx: Context, service: Service, stages: Mapping[str, Stage]) -> Iterator[Step]:
    """Those of the seven steps of an install guide's chapter that the service has."""
    nodes = ctx.lab.nodes.values()
    identity = service.name == "keystone"
    if databases := service.databases(ctx):
        yield Step("database", {ctx.host(Component.MARIADB): databases})
    accounts = Step("accounts", {ctx.identity_host: as_client(ctx, service.identity(ctx))})
    if not identity:
        yield accounts
    yield Step("configure", {n.name: service.configure(ctx, n) for n in nodes})
    copies = service.copies(ctx)
    yield Step("copies", {c.source: tuple(Said(c.title, c.guide(), c.origin) for c in copies) for c in copies})
    populate: dict[str, tuple[Operation, ...]] = {}
    for node, chain in service.populate(ctx):
        populate[node] = populate.get(node, ()) + chain.commands
    yield Step("populate", populate)
    yield from starts(ctx, service)
    if identity:
        yield Step("openrc", flat(stages["fixtures"].nodes))
        yield accounts
    if service.name == "nova" and (mapped := nova.map_hosts(ctx)):
        hosts = tuple(n.name for n in ctx.lab.running(Component.NOVA_COMPUTE))
        yield Step("hosts", {ctx.identity_host: as_client(ctx, (openstack.ComputeHosts(hosts),))})
        yield Step("map", {ctx.host(Component.NOVA_CONTROLLER): mapped})
    yield Step("verify", _verify(ctx, service))


def starts(ctx: Context, service: Service) -> Iterator[Step]:
    for purpose, stage in (("start", "services"), ("start-later", "compute")):
        found: dict[str, tuple[Operation, ...]] = {}
        for node in ctx.lab.nodes.values():
            daemons = sorted((d for d in service.daemons(ctx, node) if d.stage == stage), key=lambda d: d.order)
            made: list[Operation] = []
            for daemon in daemons:
                made += daemon.before
                made += [Unit(unit) for unit in ctx.base.units[daemon.name]]
                made += [Wait(what, test) for what, test in daemon.ready]
            found[node.name] = tuple(made)
        yield Step(purpose, found)
        if stage == "services" and (objects := service.objects(ctx)):
            yield Step("objects", {ctx.identity_host: as_client(ctx, objects)})


def _verify(ctx: Context, service: Service) -> dict[str, tuple[Operation, ...]]:
    found: dict[str, tuple[Operation, ...]] = {}
    asked = as_client(ctx, service.verify(ctx))
    said = {o.guide() for o in asked}
    for check in service.checks(ctx):
        if check.command not in said:
            found[check.node] = (*found.get(check.node, ()), Said("", check.command))
    found[ctx.identity_host] = asked + found.get(ctx.identity_host, ())
    return found


@dataclass(frozen=True)
class Said:
    """A step that is only printed: the engine does it in another way, or it is for people to read."""

    title: str
    text: str
    source: str = ""

    def shell(self) -> str:
        return self.text

    def guide(self) -> str:
        return self.text


class Changed(Said):
    """A file that changes: its path is the title, its text lines of diff."""


def as_client(ctx: Context, calls: tuple[openstack.ApiOperation, ...]) -> tuple[Operation, ...]:
    """API calls as commands of the release's own clients, run as admin; each appears once."""
    made = {said(ctx, call): call.title for call in calls}
    as_admin = (Said("", ". /root/admin-openrc"),) if made else ()
    return (*as_admin, *(Said(title, text) for text, title in made.items()))


def said(ctx: Context, call: openstack.ApiOperation) -> str:
    """An API call as a command; early clients lack networks and volume services (facts 9)."""
    if ctx.release.client_networks:
        return call.guide()
    if isinstance(call, openstack.AgentsAlive):
        return "neutron agent-list"
    if isinstance(call, openstack.DhcpPlugged):
        return "neutron port-list --device_owner network:dhcp"
    if isinstance(call, openstack.ServicesUp) and call.type.startswith("volume"):
        return "cinder service-list"
    if isinstance(call, ProviderNetwork | SelfServiceNetwork):
        return call.early()
    return call.guide()


# --- rendering -------------------------------------------------------------------------------------


def step_text(ctx: Context, step: Step, words: Words) -> str:
    """A step's operations; nodes with the same operations share one block."""
    told = {node: [_operation(o, words) for o in operations] for node, operations in step.nodes.items() if operations}
    groups: list[tuple[tuple[str, ...], list[str]]] = []
    for nodes, text in _merged(told):
        if not groups or groups[-1][0] != nodes:
            groups.append((nodes, []))
        groups[-1][1].append(text)
    if not groups:
        return ""
    lines = [f"### {words.say(step.purpose)}", ""] if step.purpose else []
    for nodes, texts in groups:
        everyone = len(nodes) == len(ctx.lab.nodes) > 1
        prompt = "all" if everyone else "&".join(nodes)
        lines += [f"{words.say('On')} **{words.say('every node') if everyone else ', '.join(nodes)}**:", ""]
        lines += [text.replace(_PROMPT, prompt) for text in texts]
    return "\n".join(lines)


def _merged(told: Mapping[str, list[str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Merge the texts that several nodes share, keeping the order of each node."""
    left = {node: list(texts) for node, texts in told.items()}
    while left := {node: texts for node, texts in left.items() if texts}:
        heads = [texts[0] for texts in left.values()]
        later = {text for texts in left.values() for text in texts[1:]}
        text = next((head for head in heads if head not in later), heads[0])
        nodes = tuple(node for node, texts in left.items() if texts[0] == text)
        yield nodes, text
        for node in nodes:
            del left[node][0]


def _operation(operation: Operation, words: Words) -> str:
    source = getattr(operation, "source", "")
    why = f"*{words.remark(operation, source)}*\n\n" if words.remark(operation, source) else ""
    if isinstance(operation, File):
        suffix = "." + operation.path.rpartition(".")[2]
        kind = _KINDS.get(suffix, "text")
        owner = f"{operation.owner}:{operation.group} {operation.mode}"
        content = placeholder(operation.content)
        return f"{why}`{operation.path}` ({owner})\n\n```{kind}\n{content}```\n"
    text = placeholder(operation.guide())
    if isinstance(operation, Changed):
        return f"`{operation.title}`\n\n```diff\n{text}```\n"
    if "exit 1" in text:  # it must not close the user's shell
        text = f"(\n{text}\n)"
    if isinstance(operation, Database):
        first, *statements = text.split("\n")
        lines = [f"{_PROMPT}# {first}", *(f"MariaDB [(none)]> {s}" for s in (*statements, "exit"))]
        return f"{why}```console\n" + "\n".join(lines) + "\n```\n"
    return f"{why}```console\n{typed(text, _PROMPT)}\n```\n"


def typed(text: str, prompt: str) -> str:
    """Commands as they look on a terminal: a prompt before each, and ``>`` before continuation lines."""
    lines: list[str] = []
    for command in commands(text):
        first, *rest = command.split("\n")
        lines += [f"{prompt}# {first}", *(f"> {line}" for line in rest)]
    return "\n".join(lines)


def commands(text: str) -> Iterator[str]:
    """Split shell text into commands: a line with an open quote or block continues on the next."""
    held: list[str] = []
    for line in text.split("\n"):
        held.append(line)
        command = "\n".join(held)
        if _closed(command):
            yield command
            held = []
    if held:
        yield "\n".join(held)


def _closed(command: str) -> bool:
    try:
        tokens = [token.strip(";") for token in shlex.split(command, comments=True)]
    except ValueError:  # an open quote
        return False
    if tokens and tokens[-1] in ("&&", "||", "|"):
        return False
    depth = sum(token in _OPEN for token in tokens) - sum(token in _CLOSE for token in tokens)
    return depth <= 0
