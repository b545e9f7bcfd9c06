"""A lab is opened once: on the way of one `up` nothing derives its facts or its plan again."""

from __future__ import annotations

from pathlib import Path

import pytest
from apis import Apis
from support import IDENTITY, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.lab import up as bring
from labctl.plan import planner
from labctl.services.base import Context


def test_one_up_derives_facts_and_plan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())
    Apis.instead(monkeypatch)
    path = write(tmp_path, IDENTITY)
    spec = specify(path)
    derived: list[str] = []
    of, plan = Context.of, planner.plan

    def facts(found: object) -> Context:
        derived.append("facts")
        return of(found)  # type: ignore[arg-type]

    def planned(ctx: Context) -> object:
        derived.append("plan")
        return plan(ctx)

    monkeypatch.setattr(Context, "of", facts)
    monkeypatch.setattr(planner, "plan", planned)
    bring.up(spec, path, "verify")
    assert sorted(derived) == ["facts", "plan"]
