"""Failure capture of a test: consoles, faults, agent states, the nodes' logs since the test began.

Nothing here may hide the failure: every part runs in its own thread with a deadline, and its error is written
in place of its result.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from openstack.connection import Connection

from labctl.diagnose.report import report
from labctl.host import files
from labctl.host.threads import collected, started
from labctl.lab import inventory
from labctl.records.access import Access
from labctl.records.lab import Lab
from labctl.secret import Redactor
from labctl.services import SERVICES
from labctl.testing import resources
from labctl.testing.projects import Project
from labctl.testing.waits import patient

API_DEADLINE = 30  # seconds for the consoles, and for the states; more on slow machines
NODE_DEADLINE = 40  # seconds for all nodes together; more on slow machines
LOGS = " ".join(name for service in SERVICES for name in service.logs)
#: Seconds for the diagnosis beyond those of everything else; more on slow machines.
DIAGNOSIS_DEADLINE = 5
JOURNAL_LINES = 300
LOG_LINES = 200
#: Test files that are about one service beside keystone.
SUBJECTS = {"test_identity.py": "keystone", "test_image.py": "glance", "test_object.py": "swift"}


def redactor(lab: Access, projects: Iterable[Project] = ()) -> Redactor:
    """A redactor that knows the lab's and the projects' secrets."""
    return Redactor({*lab.secrets, *(p.password for p in projects)})


def folder_name(nodeid: str) -> str:
    """A test id as the name of a directory."""
    return re.sub(r"[^A-Za-z0-9_.\[\]-]+", "-", nodeid.removeprefix("e2e/")).strip("-")[:150]


def subject(path: Path) -> str:
    """The one service that all tests of a file are about, beside keystone; else nothing."""
    return SUBJECTS.get(path.name, "")


def again(name: str, nodeid: str) -> str:
    """The command that reruns this test."""
    return f"labctl test {shlex.quote(name)} -- {shlex.quote(nodeid)}"


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
            except Exception as error:  # a server without a console must not hide the others
                parts.append(f"(no console: {type(error).__name__}: {error})")
    return "\n".join(parts) + "\n" if parts else "no servers\n"


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


def node_text(name: str, node: str, since: float) -> str:
    """The log lines of one node since a time."""
    with Lab.load(name).connect(node) as session:
        result = session.run(node_script(since), timeout=NODE_DEADLINE - 5)
    return result.stdout + (f"\n=== stderr\n{result.stderr}" if result.stderr else "")


def capture(
    lab: Access,
    admin: Connection | None,
    projects: Sequence[Project],
    directory: Path,
    since: float,
    text: str,
    only: str = "",
) -> Path:
    """Store everything that explains a failure in a directory and return the directory.

    :param since: start of the test, seconds since the epoch.
    :param text: the failure as pytest shows it.
    :param only: the one service that the test is about, beside what everything stands on.
    """
    files.make_directories(directory)
    redact = redactor(lab, projects)
    jobs: dict[str, tuple[Future[str], float]] = {
        f"node-{node}.txt": (started(partial(node_text, lab.lab, node, since)), NODE_DEADLINE) for node in lab.nodes
    }
    diagnosis = started(lambda: f"{report(lab.lab, only, since).text}\n")
    if projects:
        jobs["servers.txt"] = (started(lambda: servers_text(projects)), API_DEADLINE)
    if admin is not None:
        jobs["states.txt"] = (started(lambda: inventory.states_text(admin, lab.components)), API_DEADLINE)
    files.write_atomic(directory / "failure.txt", redact(text))
    began = time.monotonic()
    for name, (future, deadline) in jobs.items():
        left = max(0.0, patient(deadline) - (time.monotonic() - began))
        files.write_atomic(directory / name, redact(collected(future, left)))
    said = collected(diagnosis, patient(DIAGNOSIS_DEADLINE))
    files.write_atomic(directory / "diagnosis.txt", redact(said))
    return directory
