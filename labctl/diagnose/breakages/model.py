"""Ways in which such labs break, as exercises and as the proof of the diagnosis.

Each is a shell command on one node, and the row of the troubleshooting tables that explains it. None of them loses
data; a restored snapshot, or the fix that the diagnosis names, ends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from labctl import bases
from labctl.components import Component
from labctl.errors import LabError
from labctl.operations.node import quote
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import LabSpec, NodeSpec

_UNIT = re.compile(r"\bunit:([a-z0-9-]+)")


def mechanism(*wanted: Mechanism) -> Callable[[LabSpec], bool]:
    """Labs with one of these mechanism drivers."""
    return lambda spec: spec.mechanism in wanted


@dataclass(frozen=True)
class Breakage:
    """One exercise: ``shell`` runs on the node of a component; with ``admin`` after loading admin-openrc.

    In it, ``unit:DAEMON`` is the unit that a lab's packages have for this daemon.
    """

    name: str
    title: str
    component: Component
    shell: str
    rows: tuple[str, ...]
    admin: bool = False
    #: what undoes it where the fixes of a diagnosis do not
    undo: str = ""
    #: a component whose node is not the one to break
    apart: Component | None = None
    #: labs in which there is such a thing to break
    only: Callable[[LabSpec], bool] = bool

    def nodes(self, spec: LabSpec) -> tuple[NodeSpec, ...]:
        """The nodes that it can break."""
        if not self.only(spec):
            return ()
        here = spec.running(self.component)
        return here if self.apart is None else tuple(node for node in here if not node.has(self.apart))

    def node(self, spec: LabSpec) -> str:
        """The node it breaks.

        :raises LabError: the lab has none.
        """
        if not (nodes := self.nodes(spec)):
            apart = f" on a node without {self.apart.value}" if self.apart else ""
            raise LabError(f"{spec.name} has no {self.component.value}{apart} that '{self.name}' can break")
        return nodes[0].name

    def program(self, spec: LabSpec, shell: str = "") -> str:
        """The whole shell text, with the lab's own names in variables.

        :param shell: by default what breaks the node.
        """
        provider = spec.interface(spec.nodes[self.node(spec)], NetworkRole.PROVIDER)
        names = {
            "region": spec.region,
            "router": spec.fixtures.router,
            "external": spec.fixtures.external_network,
            "image": spec.fixtures.image,
            "provider": provider.name if provider else "",
        }
        words = " ".join(f"{name}={quote(value)}" for name, value in names.items())
        unit = bases.get(spec.base, spec.package_source).unit
        text = _UNIT.sub(lambda found: unit(found[1]), shell or self.shell)
        login = ". /root/admin-openrc; " if self.admin else ""
        return f"{words}; {login}{text}"
