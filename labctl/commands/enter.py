"""Verbs that go into a lab: ssh, exec, shell, env, secrets, test."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl import drivers, process
from labctl.commands.console import Format, err, listing, out, progress
from labctl.errors import BROKEN, BrokenLabError, LabError
from labctl.lab import access, bundle
from labctl.lab.state import LabState
from labctl.network import NETNS

Output = Annotated[Format, typer.Option("-o", "--output", help="table or json")]
Words = Annotated[list[str] | None, typer.Argument(help="command and its arguments, after --")]
#: Statuses of pytest after which the lab is worth a look: tests failed, or the lab gave no token.
_TELLING = (1, BROKEN)
_PASS = {"allow_extra_args": True, "ignore_unknown_options": True}


def _stopped(state: LabState) -> list[str]:
    driver = drivers.get(state.spec.driver)
    return [node for node in state.spec.nodes if not driver.machine(state, node).running]


def _inside(state: LabState) -> list[str]:
    if not (NETNS / state.namespace).exists():
        raise LabError(f"the lab {state.name} has no network now", f"labctl repair {state.name}")
    if stopped := _stopped(state):
        words = f"{' and '.join(stopped)} of {state.name} {'does' if len(stopped) == 1 else 'do'} not run"
        if stopped == list(state.spec.nodes):
            raise BrokenLabError(words, f"labctl repair {state.name}")
        err.print(f"[yellow]warning[/yellow] {words}; labctl repair {state.name} starts what stopped")
    return ["ip", "netns", "exec", state.namespace]


def _environment(state: LabState, who: str = "admin") -> dict[str, str]:
    """This process's environment, the lab's credentials, and the tools installed beside labctl."""
    tools = str(Path(sys.executable).parent)
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **access.environment(state, who), "PATH": path, "LABCTL_LAB": state.name}


def ssh(
    lab: Annotated[str, typer.Argument(help="name of the lab")],
    node: Annotated[str, typer.Argument(help="name of the node")],
    command: Words = None,
) -> None:
    """Log in to a node as root, or run a command there."""
    state = LabState.load(lab)
    if node not in state.spec.nodes:
        raise LabError(f"{lab} has no node '{node}'; it has {', '.join(state.spec.nodes)}")
    machine = drivers.get(state.spec.driver).machine(state, node)
    if not machine.running:
        said = f": {machine.detail}" if machine.detail else ""
        raise BrokenLabError(f"{node} of {lab} does not run{said}", f"labctl repair {lab}; labctl status {lab}")
    if shutil.which("ssh") is None:
        raise LabError("ssh is not installed", "apt-get install openssh-client")
    keys = state.directory / "keys"
    words = [
        *_inside(state),
        "ssh",
        "-F",
        "none",
        "-o",
        "LogLevel=ERROR",
        "-i",
        str(keys / "id_ed25519"),
        "-o",
        f"UserKnownHostsFile={keys / 'known_hosts'}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "ConnectTimeout=20",
        f"root@{state.spec.address(state.spec.nodes[node])}",
        *(command or []),
    ]
    raise typer.Exit(process.interactive(words))


def execute(
    lab: Annotated[str, typer.Argument(help="name of the lab")],
    command: Words = None,
    user: Annotated[str, typer.Option(help="admin or demo")] = "admin",
) -> None:
    """Run a command of this machine inside the lab's network, with its credentials."""
    state = LabState.load(lab)
    if not command:
        raise LabError("no command given", f"labctl exec {lab} -- openstack server list")
    raise typer.Exit(process.interactive([*_inside(state), *command], env=_environment(state, user)))


def shell(lab: Annotated[str, typer.Argument(help="name of the lab")]) -> None:
    """Open a shell inside the lab's network, with its credentials."""
    state = LabState.load(lab)
    program = os.environ.get("SHELL", "/bin/sh")
    env = {**_environment(state), "PS1": f"({lab}) \\w $ "}
    raise typer.Exit(process.interactive([*_inside(state), program], env=env))


def env(
    lab: Annotated[str, typer.Argument(help="name of the lab")],
    user: Annotated[str, typer.Option(help="admin or demo")] = "admin",
    clouds: Annotated[bool, typer.Option("--clouds", help="print clouds.yaml instead")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print a lab's credentials: eval "$(labctl env LAB)", or clouds.yaml."""
    state = LabState.load(lab)
    directory = state.directory / "access"
    if user not in ("admin", "demo"):
        raise LabError(f"there are credentials for admin and demo, not for '{user}'")
    variables = access.environment(state, user)
    if clouds:
        typer.echo((directory / "clouds.yaml").read_text(), nl=False)
    elif output is Format.JSON:
        typer.echo(json.dumps(variables, indent=1))
    else:
        typer.echo((directory / f"{user}-openrc").read_text(), nl=False)


def secrets(
    lab: Annotated[str, typer.Argument(help="name of the lab")],
    name: Annotated[str | None, typer.Argument(help="only this one's value, as ADMIN_PASS")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print a lab's secrets, which everything else shows as ***."""
    state = LabState.load(lab)
    values = {key: secret.reveal() for key, secret in sorted(state.secrets().items())}
    if name is None:
        listing(output, [{"name": key, "value": value} for key, value in values.items()], ["name", "value"])
        return
    if name not in values:
        raise LabError(f"{lab} has no secret '{name}'; it has {', '.join(values) or 'none'}")
    typer.echo(json.dumps(values[name]) if output is Format.JSON else values[name])


def prove(
    lab: Annotated[str, typer.Argument(help="name of the lab")],
    arguments: Words = None,
    workers: Annotated[int, typer.Option("-n", help="pytest-xdist workers")] = 4,
    junit: Annotated[Path | None, typer.Option(help="write a JUnit file")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="one way through each service, and no more")] = False,
) -> None:
    """Prove a lab with the end-to-end suite; arguments after -- go to pytest."""
    LabState.load(lab)
    root = Path(__file__).parents[2]
    # what to run when the arguments name no test; pytest looks at testpaths only in its root directory
    words = [sys.executable, "-m", "pytest", "--lab", lab, "-n", str(workers), "-o", f"testpaths={root / 'e2e'}"]
    words += arguments or []
    if smoke:
        words += ["-m", "smoke"]
    if junit:
        words.append(f"--junitxml={junit.absolute()}")
    status = process.interactive(words, env=_environment(LabState.load(lab)), cwd=root)
    if status != 0:
        out.print(f"[red]{lab}: the end-to-end suite ended with {status}[/red]")
    if status in _TELLING:
        with progress():
            kept = bundle.after_failure(lab)
        if kept:
            out.print(f"  logs, configuration and states of the lab: {kept}")
    raise typer.Exit(status)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(ssh)
    app.command("exec")(execute)
    app.command()(shell)
    app.command()(env)
    app.command()(secrets)
    app.command("test")(prove)
