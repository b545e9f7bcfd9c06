"""A session to a node of a recorded lab, for commands and for tests that look behind the API."""

from __future__ import annotations

from labctl import drivers
from labctl.errors import LabError
from labctl.lab.state import LabState
from labctl.ssh import Session


def connect(lab: str, node: str, seconds: float = 20) -> Session:
    """Open a session to a node.

    :raises LabError: there is no such lab or node, or it does not answer.
    """
    state = LabState.load(lab)
    if node not in state.spec.nodes:
        raise LabError(f"{lab} has no node '{node}'; it has {', '.join(state.spec.nodes)}")
    return drivers.get(state.spec.driver).connect(state, node, seconds)
