"""An API that does not answer is an error of the lab, never a bug of labctl, in `up` and in a health check."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keystoneauth1.exceptions import ConnectFailure

from labctl.engine import converge
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.operations.openstack import Role
from labctl.plan.planner import Stage
from labctl.records.lab import Lab
from labctl.secret import Secret

SECRETS = {"ADMIN_PASS": Secret("swordfish")}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine whose lab resets every connection, and says a secret meanwhile."""

    class Resets:
        def run(self, operation: object) -> bool:
            raise ConnectFailure("connection reset by peer: swordfish")

    def ask(lab: Lab, secrets: object, work: Callable[[Any], None], guest: object = None) -> None:
        work(Resets())

    monkeypatch.setattr(converge, "ask", ask)
    lab = SimpleNamespace(name="lab", secrets=lambda: SECRETS, driver=SimpleNamespace(cpu_seconds=lambda lab: 0.0))
    return Engine(cast(Lab, lab), no_guest)


def test_a_stage_names_the_operation_and_the_next_command(engine: Engine) -> None:
    with pytest.raises(LabError) as failed:
        engine.do(Stage("catalog", api=(Role("service"),)))
    assert "role service" in failed.value.message
    assert "connection reset by peer" in failed.value.message
    assert "swordfish" not in failed.value.message
    assert failed.value.hint == "labctl diagnose lab"


def test_a_health_check_counts_it_as_failed(engine: Engine) -> None:
    ((operation, error),) = engine.ask([Role("service")], SECRETS)
    assert operation == Role("service")
    assert "connection reset by peer" in error.message
