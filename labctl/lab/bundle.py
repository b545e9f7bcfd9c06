"""Everything that explains a lab's state in one archive: logs, configuration, states, plan, versions.

It is made when something is broken, so it depends on nothing: every part has a deadline, and missing parts
are listed in ``contents.json``. Every text passes the redactor; keys and secret files are excluded.
"""

from __future__ import annotations

import io
import json
import platform
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO

import zstandard

from labctl import __version__
from labctl.errors import DeadlineError, LabError
from labctl.host import files, namespace, network, process
from labctl.host.threads import result, started
from labctl.lab import logs
from labctl.operations.node import flatten, quote
from labctl.progress import step, warn
from labctl.records import access
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.secret import hide

DEADLINE = 60  # seconds for all parts together, collected in parallel; more on slow machines
STATES = 45  # seconds for the states of one node; more on slow machines
FILE_BYTES = 2 * 2**20  # of the end of a console or an events file
KEPT = 3  # automatic bundles kept per lab
#: Files of a lab's directory that record what was done; keys, access/ and secrets.json are never read.
RECORDS = (
    *("lab.json", "faults.json", "events.jsonl", "layers/*/journal.json", "verify/*.txt"),
    *("upgrade/state.json", "upgrade/smoke-*.log"),
)

Members = Mapping[str, str]
#: Directories of the archive, and what collects the files of each.
Parts = Mapping[str, Callable[[], Members]]


def file_name(name: str) -> str:
    """Name of a bundle made now."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.tar.zst"


def write(lab: Lab, target: Path, more: Parts = MappingProxyType({})) -> None:
    """Collect everything and write the archive, readable by its owner only.

    :param more: parts beside the lab's own.
    :raises LabError: it cannot be written.
    """
    redact = logs.redactor(lab)
    missing: dict[str, str] = {}
    members: dict[str, str] = {}
    with step("lab", "collect logs, configuration and states"):
        for name, found in _collected({**parts(lab), **more}, missing, DEADLINE * lab.spec.patience).items():
            members |= {f"{name}/{member}" if member else name: text for member, text in found.items()}
    for name, why in missing.items():
        warn("lab", f"the bundle lacks {name}: {why}")
    contents = {"lab": lab.name, "made": time.time(), "labctl": __version__, "missing": missing, "files": [*members]}
    members["contents.json"] = json.dumps(contents, indent=1)
    try:
        _write(target, {name: redact(text) for name, text in members.items()})
    except OSError as error:
        raise LabError(f"{target} cannot be written: {error.strerror}", f"labctl bundle {lab.name} -o FILE") from error


def after_failure(name: str, more: Parts = MappingProxyType({})) -> Path | None:
    """Write a bundle into the lab's directory after a failure; None when there is nothing to collect.

    :param more: parts beside the lab's own.
    It never raises: the original error must stay visible.
    """
    try:
        if not exists(name):
            return None
        lab = Lab.load(name)
        if not any(lab.driver.machine(lab, node).exists for node in lab.spec.nodes):
            return None
        directory = lab.directory / "bundles"
        files.make_directories(directory, 0o700)
        target = directory / file_name(name)
        write(lab, target, more)
        for old in sorted(directory.glob("*.tar.zst"))[:-KEPT]:
            files.erase(old)
    except (LabError, OSError) as error:
        warn("lab", f"no bundle: {error}")
        return None
    return target


# --- parts -----------------------------------------------------------------------------------------


def parts(lab: Lab) -> Parts:
    """Map each directory of the archive to the function that collects its files."""
    found: dict[str, Callable[[], Members]] = {
        "lab": partial(_records, lab),
        "plan.txt": partial(_plan, lab),
        "host": partial(_host, lab),
    }
    if (lab.directory / "access" / "access.json").exists():
        found["api"] = partial(_api, lab)
    for node in lab.spec.nodes:
        found[f"nodes/{node}/log"] = partial(_logs, lab, node)
        found[f"nodes/{node}/files"] = partial(_configuration, lab, node)
        found[f"nodes/{node}/state"] = partial(_states, lab, node)
        found[f"nodes/{node}/console.txt"] = partial(_console, lab, node)
    return found


def _collected(work: Parts, missing: dict[str, str], seconds: float) -> dict[str, Members]:
    """Run everything in parallel; what fails or times out is listed in ``missing``."""
    running = {name: started(collect) for name, collect in work.items()}
    deadline = time.monotonic() + seconds
    found: dict[str, Members] = {}
    for name, future in running.items():
        try:
            found[name] = result(future, max(0.0, deadline - time.monotonic()))
        except LabError as error:
            missing[name] = error.message.splitlines()[0]
        except Exception as error:  # a failed part must not cost the others
            missing[name] = f"{type(error).__name__}: {error}"
    return found


def _tail(path: Path) -> str:
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - FILE_BYTES))
        return source.read().decode(errors="replace")


def _records(lab: Lab) -> Members:
    found = [path for pattern in RECORDS for path in sorted(lab.directory.glob(pattern))]
    return {str(path.relative_to(lab.directory)): _tail(path) for path in found}


def _console(lab: Lab, node: str) -> Members:
    path = lab.driver.console(lab, node)
    return {"": _tail(path)} if path.exists() else {}


def _plan(lab: Lab) -> Members:
    lines: list[str] = []
    for stage in lab.plan.stages:
        lines.append(stage.name)
        for part in (stage.nodes, stage.after):
            lines += [f"  {node}: {o.title}" for node, items in part.items() for o in flatten(items)]
        lines += [f"  api: {operation.title}" for operation in stage.api]
    return {"": hide("\n".join(lines)) + "\n"}


def _host(lab: Lab) -> Members:
    """State of the host: versions, load, disks, the lab's own network namespace."""
    space = network.lab_namespace(lab.name)
    packages = sorted(f"{d.metadata['Name']} {d.version}" for d in distributions())
    commands = {
        "addresses": ["ip", "-n", space, "-d", "address"],
        "routes": ["ip", "-n", space, "route"],
        "bridges": ["bridge", "-n", space, "link"],
        "queues": ["tc", "-n", space, "qdisc"],
        "nft": ["ip", "netns", "exec", space, "nft", "list", "ruleset"],
        "memory": ["free", "-m"],
        "disks": ["df", "-hT"],
        "load": ["uptime"],
        "loops": ["losetup", "--list"],
        "mounts": ["cat", "/proc/self/mounts"],
    }
    versions = [f"labctl {__version__}", f"python {sys.version}", platform.platform(), "", *packages]
    return {"versions.txt": "\n".join(versions) + "\n"} | {f"{n}.txt": _said(words) for n, words in commands.items()}


def _said(command: list[str]) -> str:
    try:
        done = process.run(command, timeout=10, check=False)
    except LabError as error:
        return f"({error.message})\n"
    return done.stdout + done.stderr


def _logs(lab: Lab, node: str) -> Members:
    found = logs.sections(logs.read(lab, node, logs.script(), STATES))
    return {name if "." in name else f"{name}.txt": text for name, (_, text) in found.items() if name != "zone"}


def _configuration(lab: Lab, node: str) -> Members:
    """The files that the plan writes, as they are now, and other configuration files next to them."""
    written = {f.path for f in lab.plan.files(node)}
    directories = {str(PurePosixPath(path).parent) for path in written if path.startswith("/etc/")} - {"/etc"}
    beside = " ".join(
        f'"$root"{quote(directory)}/*.{end}' for directory in sorted(directories) for end in ("conf", "ini", "cnf")
    )
    named = " ".join(f'"$root"{quote(path)}' for path in sorted(written | {"/etc/hosts", "/etc/resolv.conf"}))
    script = (
        "root=${LABCTL_ROOT-}\n"
        f'for file in {named} {beside}; do [ -f "$file" ] && [ ! -L "$file" ] || continue; '
        'printf \'\\n##section %s\\t\\n\' "${file#"$root/"}"; cat "$file"; done; :'
    )
    return {name: text for name, (_, text) in logs.sections(logs.read(lab, node, script, STATES).lstrip("\n")).items()}


def _states(lab: Lab, node: str) -> Members:
    """State that only a running node can report; read over SSH."""
    machine = lab.driver.machine(lab, node)
    if not machine.running or machine.paused:
        raise LabError(f"{node} is {'paused' if machine.paused else 'stopped' if machine.exists else 'gone'}")
    script = resources.files("labctl.lab").joinpath("bundle.sh").read_text()
    lines: list[str] = []
    with lab.driver.connect(lab, node, logs.ANSWER) as session:
        try:
            session.run(script, timeout=STATES, on_line=lines.append)
        except DeadlineError:  # keep the partial output
            lines += [
                "",
                "##section incomplete\t",
                f"timed out after {STATES * lab.spec.patience:g} s; the rest was not collected",
            ]
    said = "\n".join(lines).lstrip("\n")
    return {f"{name}.txt": text for name, (_, text) in logs.sections(said).items()}


def _api(lab: Lab) -> Members:
    """What the APIs list, queried from inside the lab by this thread."""
    from labctl.lab import inventory
    from labctl.records import cloud

    namespace.enter(lab.namespace, lab.hosts_file)
    facts = access.load(lab.name)
    cloud.check(facts, timeout=10)
    admin = cloud.as_admin(facts)
    return {
        "states.txt": inventory.states_text(admin, facts.components),
        "inventory.txt": inventory.inventory_text(admin, facts.components),
    }


# --- the archive -----------------------------------------------------------------------------------


def _write(target: Path, members: Mapping[str, str]) -> None:
    """Write the archive, readable only by its owner; it is complete or absent."""
    with files.replacing(target, 0o600) as sink:
        _pack(sink, target.name.removesuffix(".tar.zst"), members)


def _pack(sink: IO[bytes], top: str, members: Mapping[str, str]) -> None:
    with (
        zstandard.ZstdCompressor(level=6).stream_writer(sink, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for name, text in sorted(members.items()):
            data = text.encode()
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
            tar.addfile(info, io.BytesIO(data))
