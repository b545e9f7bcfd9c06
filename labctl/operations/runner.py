"""Run a stage on one node: upload one archive, run one program, read one marker line per operation."""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from labctl.errors import BrokenLabError, LabError
from labctl.host.ssh import Session
from labctl.operations.look import Look
from labctl.operations.node import File, Item, flatten
from labctl.operations.script import program
from labctl.secret import Secret, redact, reveal

#: A node's directory for programs while they run, and for their output afterwards.
DIRECTORY = "/var/lib/labctl/run"


@dataclass(frozen=True)
class Outcome:
    """The result of one operation; ``state`` is ok, changed or failed, ``said`` the last output of a failed one."""

    node: str
    number: int
    title: str
    state: str
    seconds: float
    said: tuple[str, ...] = ()


@dataclass
class NodeResult:
    """The result of a program on one node: its operations, exit status and what it wrote to standard error."""

    node: str
    outcomes: list[Outcome] = field(default_factory=list)
    status: int = 0
    stderr: str = ""

    def count(self, state: str) -> int:
        """How many operations ended in a state."""
        return sum(o.state == state for o in self.outcomes)


def archive(stage: str, items: tuple[Item, ...], secrets: Mapping[str, Secret]) -> bytes:
    """The stage's program and files as a tar archive, with the secrets filled in."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, text: str) -> None:
            data = reveal(text, secrets).encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))

        add("program.sh", program(stage, items))
        for operation in flatten(items):
            operation = operation.operation if isinstance(operation, Look) else operation
            if isinstance(operation, File):
                add(operation.payload, operation.content)
    return buffer.getvalue()


def _alone(directory: str) -> str:
    """Kill the program that an interrupted labctl left running on the node, and record the PID of this one.

    sshd gives each command its own process group. PIDs are reused, so the process must be checked to be ours;
    after a restart of the node it may be this very one.
    """
    pid = f"{directory}.pid"
    return f"mkdir -p {directory}; {_END.format(pid=pid, directory=directory)}; echo $$ >{pid}"


#: Ends the program whose PID a file has, if it still runs.
_END = (
    "{{ read -r old <{pid} && [ $old != $$ ] && grep -qs {directory} /proc/$old/cmdline && "
    "kill -KILL -$old; }} 2>/dev/null"
)


def end_programs(session: Session) -> None:
    """Kill every program that an interrupted labctl left running on a node, of whatever stage."""
    end = _END.format(pid='"$pid"', directory=DIRECTORY)
    session.run(f"for pid in {DIRECTORY}/*.pid; do {end}; done; :", timeout=60)


def run_stage(
    session: Session,
    name: str,
    node: str,
    stage: str,
    items: tuple[Item, ...],
    secrets: Mapping[str, Secret],
    seen: Callable[[Outcome], None],
    seconds: float = 1200,
    *,
    check: bool = True,
    directory: str = "",
) -> NodeResult:
    """Run a stage's operations on a node of a lab.

    :param seen: called for each operation as it ends.
    :param seconds: deadline of the whole stage on this node.
    :param check: raise an error when an operation failed; without, its outcome says so.
    :param directory: the node's directory for the program and its output; by default :data:`DIRECTORY`.
        Another one is removed afterwards.
    :raises LabError: an operation failed; the message has its last output, secrets redacted.
    :raises BrokenLabError: the connection was lost.
    """
    operations = flatten(items)
    result = NodeResult(node)
    said: dict[int, list[str]] = {}

    def line(text: str) -> None:
        if text.startswith("##out "):
            _, number, *rest = text.split(" ", 2)
            said.setdefault(int(number), []).append(rest[0] if rest else "")
        elif text.startswith("##labctl "):
            _, number, state, nanoseconds = text.split()
            title = operations[int(number)].title
            lines = tuple(said.get(int(number), ()))
            outcome = Outcome(node, int(number), title, state, int(nanoseconds) / 1e9, lines)
            result.outcomes.append(outcome)
            seen(outcome)

    gone = f"rm -rf {directory}; " if directory else ""
    directory = directory or DIRECTORY
    place = f"{directory}/{stage}"
    command = (
        f"{_alone(place)}; umask 077; rm -rf {place}; mkdir -p {place} && tar -xf - -C {place} && umask 022 && "
        f"LABCTL_PATIENCE={math.ceil(session.patience)} sh {place}/program.sh; "
        f"s=$?; rm -rf {place}/files {place}/program.sh; {gone}exit $s"
    )
    try:
        done = session.run(command, timeout=seconds, stdin=archive(stage, items, secrets), on_line=line)
    except BrokenLabError as error:
        raise BrokenLabError(
            f"stage {stage} on {node}: connection lost; the machine may be down",
            f"labctl status {name}; labctl repair {name}",
        ) from error
    result.status, result.stderr = done.status, done.stderr
    failed = [o for o in result.outcomes if o.state == "failed"]
    if check and (failed or done.status != 0):
        raise LabError(_failure(stage, node, failed, done.stderr, secrets), f"labctl ssh {name} {node}")
    return result


def _failure(
    stage: str,
    node: str,
    failed: list[Outcome],
    stderr: str,
    secrets: Mapping[str, Secret],
) -> str:
    if not failed:
        return redact(f"stage {stage} on {node} ended early:\n{stderr.strip()[-2000:]}", secrets)
    parts = []
    for outcome in failed:
        output = "\n".join(f"    {text}" for text in outcome.said or ("(no output)",))
        parts.append(f"stage {stage}, {node}: '{outcome.title}' failed after {outcome.seconds:.1f} s:\n{output}")
    return redact("\n".join(parts), secrets)
