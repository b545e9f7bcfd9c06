"""Verbs that enter a lab: ssh, exec, shell, env, secrets, test."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl import checkout, shipped
from labctl.commands.console import Format, err, listing, out, progress
from labctl.commands.options import MANY, LabName, NodeName, Output
from labctl.errors import BROKEN, BrokenLabError, LabError
from labctl.host import process
from labctl.host.network import NETNS
from labctl.lab import login
from labctl.records.lab import Lab

Words = Annotated[list[str] | None, typer.Argument(help="command and its arguments, after --")]
#: pytest exit statuses after which a bundle is collected: tests failed, or the lab gave no token.
_TELLING = (1, BROKEN)
_PASS = {"allow_extra_args": True, "ignore_unknown_options": True}


def _stopped(lab: Lab) -> list[str]:
    return [node for node in lab.spec.nodes if not lab.driver.machine(lab, node).running]


def _inside(lab: Lab) -> list[str]:
    if not (NETNS / lab.namespace).exists():
        raise LabError(f"the network namespace of the lab {lab.name} is missing", f"labctl repair {lab.name}")
    if stopped := _stopped(lab):
        words = f"{' and '.join(stopped)} of {lab.name} {'is' if len(stopped) == 1 else 'are'} not running"
        if stopped == list(lab.spec.nodes):
            raise BrokenLabError(words, f"labctl repair {lab.name}")
        err.print(f"warning {words}; labctl repair {lab.name} starts stopped nodes", style="yellow")
    return ["ip", "netns", "exec", lab.namespace]


def _environment(lab: Lab, who: str = "admin") -> dict[str, str]:
    """This process's environment without its proxy, the lab's credentials, and the tools installed alongside labctl."""
    from labctl.records import access

    tools = str(Path(sys.executable).parent)
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    # clients would read these two from the working directory first
    files = {"OS_CLIENT_CONFIG_FILE": str(lab.directory / "access/clouds.yaml"), "OS_CLIENT_SECURE_FILE": os.devnull}
    return {**process.without_proxies(), **files, **access.environment(lab, who), "PATH": path, "LABCTL_LAB": lab.name}


def ssh(
    name: LabName,
    node: NodeName,
    command: Words = None,
) -> None:
    """Log in to a node as root, or run a command there, with its words as they are: for a shell's, ``sh -c '…'``."""
    lab = Lab.load(name)
    address = lab.spec.address(lab.spec.node(node))
    machine = lab.driver.machine(lab, node)
    if not machine.running:
        said = f": {machine.detail}" if machine.detail else ""
        raise BrokenLabError(f"{node} of {name} is not running{said}", f"labctl repair {name}; labctl status {name}")
    if shutil.which("ssh") is None:
        raise LabError("ssh is not installed", "apt-get install openssh-client")
    words = [
        *(*_inside(lab), "ssh", "-F", "none"),
        *(word for option, value in login.options(lab).items() for word in ("-o", f"{option}={value}")),
        str(address),
        *([shlex.join(command)] if command else []),  # else the node's shell would split and expand the words again
    ]
    raise typer.Exit(process.interactive(words))


def execute(
    name: LabName,
    command: Words = None,
    user: Annotated[str, typer.Option(help="admin or demo")] = "admin",
) -> None:
    """Run a host command inside the lab's network, with the lab's credentials."""
    lab = Lab.load(name)
    if not command:
        raise LabError("no command given", f"labctl exec {name} -- openstack server list")
    raise typer.Exit(process.interactive([*_inside(lab), *command], env=_environment(lab, user)))


def shell(name: LabName) -> None:
    """Open a shell inside the lab's network, with the lab's credentials."""
    lab = Lab.load(name)
    program = os.environ.get("SHELL", "/bin/sh")
    env = {**_environment(lab), "PS1": f"({name}) \\w $ "}
    raise typer.Exit(process.interactive([*_inside(lab), program], env=env))


def env(
    name: LabName,
    user: Annotated[str, typer.Option(help="admin or demo")] = "admin",
    clouds: Annotated[bool, typer.Option("--clouds", help="print clouds.yaml instead")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print a lab's credentials: eval "$(labctl env LAB)", or clouds.yaml."""
    from labctl.records import access

    lab = Lab.load(name)
    directory = lab.directory / "access"
    if user not in ("admin", "demo"):
        raise LabError(f"no credentials for '{user}'; use admin or demo")
    variables = access.environment(lab, user)
    if clouds:
        typer.echo((directory / "clouds.yaml").read_text(), nl=False)
    elif output is Format.JSON:
        typer.echo(json.dumps(variables, indent=1))
    else:
        typer.echo((directory / f"{user}-openrc").read_text(), nl=False)


def secrets(
    name: LabName,
    secret: Annotated[str | None, typer.Argument(help="print only this secret's value, such as ADMIN_PASS")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print a lab's secrets; all other output shows them as ***."""
    lab = Lab.load(name)
    values = {key: value.reveal() for key, value in sorted(lab.secrets().items())}
    if secret is None:
        listing(output, [{"name": key, "value": value} for key, value in values.items()], ["name", "value"])
        return
    if secret not in values:
        raise LabError(f"{name} has no secret '{secret}'; it has {', '.join(values) or 'none'}")
    typer.echo(json.dumps(values[secret]) if output is Format.JSON else values[secret])


def prove(
    name: LabName,
    arguments: Words = None,
    workers: Annotated[int, typer.Option("-n", min=0, max=MANY, help="pytest-xdist workers")] = 4,
    junit: Annotated[Path | None, typer.Option(metavar="TARGET", help="write a JUnit file")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="only the smoke tests: one path through each service")] = False,
    collect: Annotated[
        bool, typer.Option("--bundle/--no-bundle", help="collect logs and a diagnosis of the lab when tests fail")
    ] = True,
) -> None:
    """Test a lab with the end-to-end suite; arguments after -- are passed to pytest."""
    from labctl.diagnose import report as diagnoses
    from labctl.lab import bundle

    lab = Lab.load(name)
    suite = shipped("e2e")
    # the default when the arguments name no test; pytest reads testpaths only in its root directory
    words = [sys.executable, "-m", "pytest", "--lab", name, "-n", str(workers), "-o", f"testpaths={suite}"]
    if checkout() is None:  # write nothing into the installation
        words += ["-p", "no:cacheprovider", "--rootdir", str(suite.parent)]
        words += ["--lab-artifacts", str(Path.cwd() / "artifacts" / name)]
    words += arguments or []
    if smoke:
        words += ["-m", "smoke"]
    if junit:
        words.append(f"--junitxml={junit.absolute()}")
    status = process.interactive(words, env=_environment(lab), cwd=suite.parent)
    if status != 0:
        out.print(f"{name}: the end-to-end suite exited with status {status}", style="red")
    if collect and status in _TELLING:
        with progress():
            kept = bundle.after_failure(name, {"diagnosis": lambda: diagnoses.report(name).members()})
        if kept:
            out.print(f"  logs, configuration and states of the lab: {kept}")
    raise typer.Exit(status)
