"""An upgrade as a document: what to type, hop by hop, made from the same plans that ``labctl upgrade`` runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from labctl.components import Component
from labctl.operations.node import Database, File, Operation, Unit, Wait
from labctl.plan import hop as plans
from labctl.plan.guide import Changed, Said, Step, as_client, flat, placeholder, step_text
from labctl.plan.planner import Plan, present
from labctl.plan.planner import plan as recipe
from labctl.plan.words import Words
from labctl.releases.model import PackageSource
from labctl.services.base import Context, Daemon
from labctl.topology.spec import NodeSpec
from labctl.upgrade.chain import Hop

_EN = {
    "upgrade-intro": (
        "Made from the plans that `labctl upgrade` runs. Commands are typed as root; the prompt says where. All "
        "services stop during a hop. Made again by:"
    ),
    "migrations-before": "Finish the data migrations of the release that runs",
    "stop": "Stop everything, and keep a copy",
    "code": "The new code",
    "base": "The new base",
    "network": "A network for tunnels",
    "forget": "What the new release no longer reads",
    "configuration": "Configuration: what changes",
    "gone": "Files of no use",
    "move": "Placement leaves nova",
    "tables": "Bring the tables up to date",
    "bindings": "Give the ports to the new mechanism driver",
    "starts": "Start",
    "adapt": "What the new release wants of the old data",
    "northbound": "Fill OVN's database",
    "loose": "Bind the ports that have no binding",
    "checks": "Upgrade checks of the new release",
    "migrations": "Data migrations of the new release",
}
_KO = {
    "upgrade-intro": (
        "`labctl upgrade`가 실행하는 계획에서 그대로 만든 문서입니다. 명령은 root로 입력하며 프롬프트가 노드를 "
        "나타냅니다. 한 단계를 올리는 동안 모든 서비스가 멈춥니다. 다시 만들기:"
    ),
    "migrations-before": "지금 릴리스의 데이터 마이그레이션 마치기",
    "stop": "모두 멈추고 사본 보관",
    "code": "새 코드",
    "base": "새 기반 시스템",
    "network": "터널용 네트워크",
    "forget": "새 릴리스가 더는 읽지 않는 것",
    "configuration": "설정: 바뀌는 부분",
    "gone": "쓰이지 않게 된 파일",
    "move": "nova에서 placement 분리",
    "tables": "테이블 갱신",
    "bindings": "포트를 새 메커니즘 드라이버로 옮기기",
    "starts": "시작",
    "adapt": "새 릴리스가 기존 데이터에 요구하는 것",
    "northbound": "OVN 데이터베이스 채우기",
    "loose": "바인딩이 없는 포트 바인딩",
    "checks": "새 릴리스의 업그레이드 검사",
    "migrations": "새 릴리스의 데이터 마이그레이션",
}


def guide(hops: Sequence[Hop], again: str, language: str = "en") -> str:
    """The document, in Markdown.

    :param again: the command that makes it.
    :param language: of headings and remarks: ``en`` or ``ko``.
    :raises LabError: the language is not supported.
    """
    words = Words({**Words.of(language).table, **(_KO if language == "ko" else _EN)})
    whole = Hop(hops[0].before, hops[-1].after)
    titles = " \u2192 ".join(whole.changes[0])
    parts = [f"# {whole.before.name}: {titles}\n\n{words.say('upgrade-intro')}\n\n`{again}`\n"]
    for number, hop in enumerate(hops, start=1):
        ctx = Context.of(hop.after)
        told = [step_text(ctx, step, words) for step in _steps(hop)]
        parts += [f"## {number}. {hop.title}\n", *(text for text in told if text)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _steps(hop: Hop) -> Iterator[Step]:
    before, ctx = Context.of(hop.before), Context.of(hop.after)
    old, made = recipe(before), plans.hop(before, ctx)
    stages = {stage.name: stage for stage in made.stages}

    def extra(name: str) -> Step:
        return Step(name, flat(stages[name].nodes) if name in stages else {})

    def asked(name: str) -> Step:
        calls = stages[name].api if name in stages else ()
        return Step(name, {ctx.identity_host: as_client(ctx, calls)} if calls else {})

    yield Step("migrations-before", flat(plans.migrations(before).nodes))
    yield Step("stop", dict(_stopped(before)))
    yield Step("network", dict(_cards(hop)))
    yield Step("base", dict(_base(hop)))
    yield Step("code", dict(_code(ctx)) if ctx.release is not before.release or ctx.base is not before.base else {})
    yield Step(
        "forget", {node: tuple(o for o in found if not _is_ours(o)) for node, found in extra("forget").nodes.items()}
    )
    yield from _configuration(ctx, old, made)
    yield extra("move")
    yield Step("tables", _populated(ctx))
    yield extra("bindings")
    yield Step("starts", dict(_started(ctx)))
    yield asked("adapt")
    yield extra("northbound")
    yield asked("loose")
    yield extra("checks")
    yield extra("migrations")


def _is_ours(operation: Operation) -> bool:
    """What only labctl has to forget: its own notes of what is done."""
    return plans.SYNCED in operation.shell()


def _units(ctx: Context, node: NodeSpec, order: Callable[[Daemon], tuple[int, ...]]) -> str:
    daemons = sorted((d for service in present(ctx) for d in service.daemons(ctx, node)), key=order)
    return " ".join(dict.fromkeys(unit for daemon in daemons for unit in ctx.base.units[daemon.name]))


def _stopped(ctx: Context) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    for node in ctx.lab.nodes.values():
        if units := _units(ctx, node, lambda daemon: (-daemon.order,)):
            lines = [f"systemctl stop {units}"]
            lines += ["mysqldump --all-databases --single-transaction > /root/before.sql"] * node.has(Component.MARIADB)
            yield node.name, tuple(Said("", line) for line in lines)


def _started(ctx: Context) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    for node in ctx.lab.nodes.values():
        if units := _units(ctx, node, lambda daemon: (daemon.stage == "compute", daemon.order)):
            yield node.name, (Said("", f"systemctl enable --now {units}"),)


def _cards(hop: Hop) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    for name, node in hop.after.nodes.items():
        for card in node.interfaces[len(hop.before.nodes[name].interfaces) :]:
            prefix = hop.after.networks[card.network].cidr.prefixlen
            yield name, (Said("", f"ip address add {card.address}/{prefix} dev {card.name}"),)


def _base(hop: Hop) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    if hop.after.base == hop.before.base:
        return
    old, new = (Context.of(spec).base.suite for spec in (hop.before, hop.after))
    for node in hop.after.nodes.values():
        lines = [
            f"sed -i s/{old}/{new}/g /etc/apt/sources.list /etc/apt/sources.list.d/*",
            "apt-get update",
            "apt-get dist-upgrade",
        ]
        # RabbitMQ 4 takes over only from 3.13 with all feature flags; nothing waits in its queues
        lines += ["systemctl stop rabbitmq-server && rm -r /var/lib/rabbitmq/mnesia"] * node.has(Component.RABBITMQ)
        yield node.name, tuple(Said("", line) for line in lines)


def _code(ctx: Context) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    release = ctx.release
    if ctx.lab.package_source != PackageSource.PYPI.value or release.pypi is None:
        return
    home, python = release.environment, release.pypi.python[0]
    pins = " ".join(f"{name}=={version}" for name, version in sorted(release.pins.items()))
    lines = (
        f"/opt/python/{python}/bin/python{python} -m venv {home}",
        f"{home}/bin/pip install -c constraints/{release.constraints}.txt {pins}",
    )
    for name in ctx.lab.nodes:
        yield name, tuple(Said("", line) for line in lines)


def _configuration(ctx: Context, old: Plan, made: Plan) -> Iterator[Step]:
    """The files that differ, those that are new, and those of no use any more."""
    changed: dict[str, tuple[Operation, ...]] = {}
    gone: dict[str, tuple[Operation, ...]] = {}
    for node in ctx.lab.nodes:
        had = {file.path: file for file in old.files(node)}
        has = {file.path for file in made.files(node)}
        known = set(_settings(old, node))
        told = ((o, _difference(had.get(o.path), o) if isinstance(o, File) else o) for o in _settings(made, node))
        changed[node] = tuple(text for operation, text in told if text and operation not in known)
        gone[node] = tuple(Said("", f"rm {path}") for path in had if path not in has)
    yield Step("configuration", changed)
    yield Step("gone", gone)


def _settings(made: Plan, node: str) -> Iterator[Operation]:
    """What a plan does with a node before its daemons start."""
    for stage in made.stages:
        if stage.name in ("prepare", "sql", "infrastructure", "configure"):
            yield from (o for o in stage.on(node) if not isinstance(o, Unit | Wait | Database))


def _difference(old: File | None, new: File) -> Operation | None:
    if old is None:
        return new
    was, will = (placeholder(file.content).splitlines(keepends=True) for file in (old, new))
    # with the section around a line, and without the names of the two files
    lines = list(difflib.unified_diff(was, will, n=2))[2:]
    return Changed(new.path, "".join(lines)) if lines else None


def _populated(ctx: Context) -> dict[str, tuple[Operation, ...]]:
    """What brings tables up to date; keys and cells are there since the lab was installed."""
    chains = (found for service in present(ctx) for found in service.populate(ctx))
    return _merged({node: tuple(c for c in chain.commands if plans.SYNCED in c.shell())} for node, chain in chains)


def _merged(found: Iterable[Mapping[str, tuple[Operation, ...]]]) -> dict[str, tuple[Operation, ...]]:
    made: dict[str, tuple[Operation, ...]] = {}
    for nodes in found:
        for node, operations in nodes.items():
            made[node] = made.get(node, ()) + operations
    return made
