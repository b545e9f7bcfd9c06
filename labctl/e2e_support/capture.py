"""What is kept of a failed test: consoles, faults, agent states, the nodes' logs since the test began.

Nothing here may hide the failure: every part runs with a deadline in its own thread, and what goes
wrong with it is written where its result would be.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_futures
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from labctl.e2e_support import resources
from labctl.e2e_support.projects import Project
from labctl.lab import remote
from labctl.lab.access import Access

API_DEADLINE = 30  # seconds for the consoles, and for the states
NODE_DEADLINE = 40  # seconds for all nodes together
LOGS = "nova neutron cinder glance heat keystone placement swift apache2 httpd"
JOURNAL_LINES = 300
LOG_LINES = 200

_HIDDEN = "***"
_PATTERNS = (
    re.compile(r"gAAAAA[A-Za-z0-9_=-]{30,}"),  # fernet tokens
    re.compile(r"(?<=://)[^\s:/@]+:[^\s/@]+(?=@)"),  # credentials in URLs
    re.compile(r"""(?i)(?<=x-auth-token)["': =]+[^\s"',}]+"""),
    re.compile(r"""(?i)(?<=x-subject-token)["': =]+[^\s"',}]+"""),
    re.compile(r"""(?i)(?<=password)["']?\s*[:=]\s*["']?[^\s"',}]+"""),
)


@dataclass
class Redactor:
    """Replaces secrets in text: the values it was given, and what looks like a token or a password."""

    values: set[str] = field(default_factory=set)

    def __call__(self, text: str) -> str:
        for value in sorted(filter(None, self.values), key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        for pattern in _PATTERNS:
            text = pattern.sub(_HIDDEN, text)
        return text


def redactor(lab: Access, projects: Iterable[Project] = ()) -> Redactor:
    """A redactor that knows the lab's and the projects' secrets."""
    return Redactor({lab.admin_password, lab.demo_password, *(p.password for p in projects)})


def started(work: Callable[[], str]) -> Future[str]:
    """Run something in a daemon thread, which never keeps the process from ending."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="labctl-capture").start()
    return future


def collected(future: Future[str], deadline: float) -> str:
    """The result of :func:`started`, or in one line why there is none.

    :param deadline: seconds.
    """
    wait_futures([future], timeout=deadline)
    if not future.done():
        return f"(not captured: no end after {deadline:g} s)\n"
    error = future.exception()
    return f"(not captured: {type(error).__name__}: {error})\n" if error else future.result()


def folder_name(nodeid: str) -> str:
    """A test id as the name of a directory."""
    return re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", nodeid.removeprefix("e2e/")).strip("-")[:150]


def again(lab: str, nodeid: str) -> str:
    """The command that runs this one test again."""
    return f"labctl test {shlex.quote(lab)} -- {shlex.quote(nodeid)}"


def servers_text(projects: Sequence[Project]) -> str:
    """Status, fault, volumes and the end of the console of every server of the test's projects."""
    parts: list[str] = []
    for project in projects:
        compute = project.connection.compute
        for server in compute.servers():
            parts.append(
                f"=== {server.name} {server.id}: {server.status}, task {server.task_state}, "
                f"addresses {server.addresses}\nfault: {server.fault}"
            )
            try:
                parts.append(resources.console(project.connection, server))
            except Exception as error:  # a server without a console must not hide the next one
                parts.append(f"(no console: {type(error).__name__}: {error})")
    return "\n".join(parts) + "\n" if parts else "no servers\n"


def states_text(admin: Connection, components: frozenset[str]) -> str:
    """Compute services, hypervisors, network agents and volume services, as the APIs see them."""

    def rows(title: str, source: Callable[[], Iterable[Any]], fields: str) -> list[str]:
        try:
            found = [", ".join(f"{f}={getattr(x, f)}" for f in fields.split()) for x in source()]
        except Exception as error:  # one API that is down must not hide the others
            found = [f"(not listed: {type(error).__name__}: {error})"]
        return [f"=== {title}", *found]

    lines = [
        *rows("compute services", admin.compute.services, "binary host status state updated_at"),
        *rows("hypervisors", lambda: admin.compute.hypervisors(details=True), "name status state"),
        *rows("network agents", admin.network.agents, "binary host is_alive last_heartbeat_at"),
    ]
    if "cinder-controller" in components:
        fields = "binary host status state updated_at"
        lines += rows("volume services", admin.block_storage.services, fields)
        lines += rows("volumes", lambda: admin.block_storage.volumes(all_projects=True), "id name status attachments")
    return "\n".join(lines) + "\n"


def node_script(since: float) -> str:
    """Shell text that prints a node's failures and warnings since a time (seconds since the epoch)."""
    at = int(since) - 1
    return (
        f"since=$(date -d @{at} '+%Y-%m-%d %H:%M:%S'); "
        "echo '=== failed units'; systemctl --failed --no-legend --no-pager --plain; "
        f'for log in {LOGS}; do for file in /var/log/$log/*.log; do [ -s "$file" ] || continue; '
        f"""found=$(awk -v since="$since" 'substr($0, 1, 19) >= since && /ERROR|CRITICAL|Traceback/' """
        f'"$file" | tail -n {LOG_LINES}); [ -z "$found" ] || printf "=== %s\\n%s\\n" "$file" "$found"; '
        "done; done; "
        f"echo '=== journal'; journalctl --no-pager -o short-iso --since @{at} | tail -n {JOURNAL_LINES}"
    )


def node_text(lab: str, node: str, since: float) -> str:
    """The log lines of one node since a time."""
    with remote.connect(lab, node) as session:
        result = session.run(node_script(since), timeout=NODE_DEADLINE - 5)
    return result.stdout + (f"\n=== stderr\n{result.stderr}" if result.stderr else "")


def capture(
    lab: Access,
    admin: Connection | None,
    projects: Sequence[Project],
    directory: Path,
    since: float,
    text: str,
) -> Path:
    """Store everything worth knowing of a failure in a directory and return it.

    :param since: start of the test, seconds since the epoch.
    :param text: the failure as pytest shows it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    redact = redactor(lab, projects)
    jobs: dict[str, tuple[Future[str], float]] = {
        f"node-{node}.txt": (started(partial(node_text, lab.lab, node, since)), NODE_DEADLINE) for node in lab.nodes
    }
    if projects:
        jobs["servers.txt"] = (started(lambda: servers_text(projects)), API_DEADLINE)
    if admin is not None:
        jobs["states.txt"] = (started(lambda: states_text(admin, lab.components)), API_DEADLINE)
    (directory / "failure.txt").write_text(redact(text))
    began = time.monotonic()
    for name, (future, deadline) in jobs.items():
        left = max(0.0, deadline - (time.monotonic() - began))
        (directory / name).write_text(redact(collected(future, left)))
    return directory
