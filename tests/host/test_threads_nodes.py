"""The same on several nodes: what fails on some of them is told of all."""

from __future__ import annotations

import pytest

from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host.threads import on_each


def failing(errors: dict[str, Exception]) -> None:
    def work(node: str) -> str:
        if node in errors:
            raise errors[node]
        return node

    assert on_each(work, ["a", "b", "c"]) == ["a", "b", "c"]


def test_what_works_everywhere_gives_its_results_in_order() -> None:
    failing({})


def test_every_failure_is_told_and_every_command_once() -> None:
    hint = "labctl status one; labctl logs one"
    with pytest.raises(LabError) as raised:
        failing(
            {"a": BrokenLabError("a is gone", hint), "c": BrokenLabError("c is gone", f"{hint}; labctl repair one")}
        )
    assert raised.value.message == "a is gone\nc is gone"
    assert raised.value.hint == "labctl status one; labctl logs one; labctl repair one"
    assert isinstance(raised.value, BrokenLabError)


def test_what_all_nodes_say_is_said_once() -> None:
    with pytest.raises(DeadlineError) as raised:
        failing({node: DeadlineError("no answer", "wait") for node in "abc"})
    assert (raised.value.message, raised.value.hint) == ("no answer", "wait")


def test_failures_of_two_kinds_are_one_of_the_kind_that_both_are() -> None:
    with pytest.raises(LabError) as raised:
        failing({"a": DeadlineError("late"), "b": BrokenLabError("broken")})
    assert type(raised.value) is LabError


def test_a_bug_is_told_with_what_failed_beside_it() -> None:
    with pytest.raises(KeyError) as raised:
        failing({"a": LabError("a is gone"), "b": KeyError("b")})
    assert raised.value.__notes__ == ["a is gone"]
