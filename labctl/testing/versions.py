"""Which versions of the projects a node has, as the Python that runs them reports them."""

from __future__ import annotations

import shlex

from labctl.errors import BrokenLabError
from labctl.records.lab import Lab
from labctl.releases.model import DISTRIBUTIONS, PackageSource, Placement
from labctl.services import SERVICES
from labctl.services.base import Context
from labctl.topology.spec import NodeSpec

#: For any Python from 2.7 on: for each argument, names that a distribution may have, one line with its version.
SCRIPT = """
import sys
try:
    from importlib.metadata import version
except ImportError:
    from pkg_resources import get_distribution
    version = lambda name: get_distribution(name).version
for names in sys.argv[1:]:
    found = "none"
    for name in names.split(","):
        try:
            found = version(name)
            break
        except Exception:
            pass
    print(found)
"""


def interpreter(ctx: Context) -> str:
    """Shell text that is the command of the Python that runs the lab's services."""
    if ctx.base.source is PackageSource.PYPI:
        return f"{ctx.release.environment}/bin/python"
    return '"$(command -v python3 || command -v python2)"'


def projects(ctx: Context, node: NodeSpec) -> tuple[str, ...]:
    """The projects whose daemons a node runs."""
    known = ctx.release.versions[ctx.base.source]
    apart = ctx.release.placement is Placement.PACKAGE  # else placement is a part of nova
    return tuple(
        service.name
        for service in SERVICES
        if service.name in known and node.has(*service.components) and (apart or service.name != "placement")
    )


def command(ctx: Context, names: tuple[str, ...]) -> str:
    """The command that prints the version of each project, in this order."""
    words = (shlex.quote(",".join(dict.fromkeys((DISTRIBUTIONS.get(name, name), name)))) for name in names)
    return f"{interpreter(ctx)} -c {shlex.quote(SCRIPT)} {' '.join(words)}"


def of_node(lab: Lab, node: str) -> dict[str, str]:
    """The version of each project that a node runs.

    :raises LabError: the node does not answer.
    """
    names = projects(lab.context, lab.spec.nodes[node])
    if not names:
        return {}
    with lab.connect(node) as session:
        answer = session.run(command(lab.context, names), timeout=30)
    found = answer.stdout.split()
    if len(found) != len(names):
        raise BrokenLabError(f"{node} of {lab.name} does not tell its versions: {answer.stderr.strip()[-300:]}")
    return dict(zip(names, found, strict=True))


def foreign(ctx: Context, versions: dict[str, str]) -> list[str]:
    """What is not of the lab's release, in words."""
    release, source = ctx.release, ctx.base.source
    return [
        f"{project} {version} instead of {release.title}'s {release.versions[source][project]}"
        for project, version in versions.items()
        if not release.includes(source, project, version)
    ]
