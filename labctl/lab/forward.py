"""What of a lab is opened outside its namespace: the dashboard, the guests' consoles, the APIs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from labctl.components import Component
from labctl.errors import LabError
from labctl.host.relay import LOOPBACK, Target
from labctl.services import SERVICES
from labctl.services.base import Context
from labctl.topology.spec import LabSpec

#: The port that reaches everything of the lab, and the first ports tried for those that only root may have: browsers
#: refuse some others, such as 6000 and 10080.
SOCKS, LOW = 1080, 8800
#: Components with ports for people and their programs; what others have is the lab's own.
OPEN = (
    Component.HORIZON,
    Component.NOVA_CONTROLLER,
    Component.KEYSTONE,
    Component.GLANCE,
    Component.PLACEMENT,
    Component.NEUTRON_SERVER,
    Component.CINDER_CONTROLLER,
    Component.SWIFT_PROXY,
    Component.HEAT,
    Component.GNOCCHI,
    Component.AODH,
)
#: Ports of these components that are none of an API: their names, and what is opened there.
_NAMED = {80: "dashboard", 6080: "novnc", 8000: "heat-cfn"}
#: Ports that guests ask, or that answer only where there is a certificate.
_INNER = (443, 8775)


@dataclass(frozen=True)
class Opening:
    """A port of the lab to be opened on 127.0.0.1, with the number that is tried first; ``path`` is the link's."""

    name: str
    target: Target
    wanted: int
    path: str = "/"

    def link(self, port: int) -> str:
        """Its address, once it is open on a port."""
        return f"{'http' if self.target.host else 'socks5h'}://{LOOPBACK}:{port}{self.path if self.target.host else ''}"


def openings(spec: LabSpec) -> list[Opening]:
    """Everything of a lab that can be opened, the SOCKS port first."""
    context = Context.of(spec)
    return [Opening("socks", Target(), SOCKS), *sorted(_ports(context), key=lambda o: _rank(o.name))]


def _ports(context: Context) -> Iterator[Opening]:
    for service in SERVICES:
        for component, ports in service.ports.items():
            if component not in OPEN or not context.lab.has(component):
                continue
            host = str(context.lab.address(context.lab.host_of(component)))
            for port in (int(text.partition("/")[0]) for text in ports if re.fullmatch(r"\d+/tcp", text)):
                if port not in _INNER:
                    name = _NAMED.get(port, service.name)
                    yield Opening(name, Target(host, port), port if port >= 1024 else LOW + port, _path(context, name))


def _path(context: Context, name: str) -> str:
    """Where a service answers people: links of APIs lead to their versions."""
    paths = {"dashboard": f"{context.base.paths['horizon-url']}/", "novnc": "/vnc_auto.html", "keystone": "/v3"}
    return paths.get(name, "/")


def _rank(name: str) -> tuple[int, str]:
    return ({"dashboard": 0, "novnc": 1, "keystone": 2}.get(name, 3), name)


def chosen(spec: LabSpec, words: Sequence[str]) -> list[Opening]:
    """The openings that ``NAME`` or ``NAME=PORT`` ask for, without any all of them.

    :raises LabError: the lab has nothing of that name, or what is given is no port.
    """
    known = {opening.name: opening for opening in openings(spec)}
    found = []
    for word in words:
        name, _, port = word.partition("=")
        if name not in known:
            raise LabError(f"{spec.name} has no '{name}' to open; it has {', '.join(known)}")
        if "=" in word and not (port.isdecimal() and 0 < int(port) < 65536):
            raise LabError(f"{word}: no port", f"labctl forward {spec.name} {name}=8080")
        found.append(replace(known[name], wanted=int(port)) if port else known[name])
    return list(dict.fromkeys(found)) or list(known.values())
