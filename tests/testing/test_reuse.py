"""A worker's project: used again while its tests pass, a new one after one that failed."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.testing import reuse
from labctl.testing.cleanup import LeftBehindError
from labctl.testing.resources import Names
from labctl.testing.reuse import KeptProject


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made, emptied and destroyed, in order."""
    log: list[str] = []
    numbers = count(1)

    def create(*_: Any) -> Any:
        made = SimpleNamespace(name=f"project {next(numbers)}")
        log.append(f"create {made.name}")
        return made

    def make_network(project: Any, name: str) -> str:
        log.append(f"network of {project.name}")
        return f"net of {project.name}"

    monkeypatch.setattr(reuse.projects, "create", create)
    monkeypatch.setattr(reuse.resources, "make_network", make_network)
    monkeypatch.setattr(reuse.cleanup, "empty", lambda _, project, keep: log.append(f"empty {project.name} but {keep}"))
    monkeypatch.setattr(reuse.cleanup, "destroy", lambda _, project: log.append(f"destroy {project.name}"))
    return log


@pytest.fixture
def worker() -> KeptProject:
    lab: Any = None
    return KeptProject(lab, lab)


NAMES = Names("main")


def test_project_and_network_go_from_test_to_test(done: list[str], worker: KeptProject) -> None:
    worker.project(NAMES)
    worker.give_back(failed=False)
    first = worker.network(NAMES)
    worker.give_back(failed=False)
    assert worker.network(NAMES) == first
    worker.remove()
    worker.remove()
    assert done == [
        "create project 1",
        "empty project 1 but None",
        "network of project 1",
        "empty project 1 but net of project 1",
        "destroy project 1",
    ]


def test_after_a_failed_test_the_next_one_gets_a_new_project(done: list[str], worker: KeptProject) -> None:
    worker.network(NAMES)
    worker.give_back(failed=True)
    assert worker.network(NAMES) == "net of project 2"
    assert done[2] == "destroy project 1"


def test_project_that_cannot_be_emptied_is_removed_and_told(
    done: list[str], worker: KeptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: Any) -> None:
        raise LeftBehindError("left behind: a volume")

    monkeypatch.setattr(reuse.cleanup, "empty", stuck)
    worker.network(NAMES)
    with pytest.raises(LeftBehindError, match="a volume"):
        worker.give_back(failed=False)
    assert done[-1] == "destroy project 1"
    assert worker.network(NAMES) == "net of project 2"


def test_nothing_is_emptied_when_no_project_was_made(done: list[str], worker: KeptProject) -> None:
    worker.give_back(failed=False)
    worker.give_back(failed=True)
    assert done == []
