"""Heat's stacks: made, updated, waited for and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openstack.exceptions import NotFoundException

from labctl.testing.projects import Project
from labctl.testing.waits import patient, wait_for

DEADLINE = 300  # seconds
GONE_DEADLINE = 30  # seconds until nova has removed the record of a deleted server
VERSION = "2016-04-08"  # supported by every release; the notes' sample has 2018-08-31

Template = dict[str, Any]


def template(
    parts: Mapping[str, Any],
    outputs: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Template:
    """A HOT template as data."""
    return {
        "heat_template_version": VERSION,
        "parameters": dict(parameters or {}),
        "resources": dict(parts),
        "outputs": dict(outputs or {}),
    }


def fetched(heat: Any, stack_id: str) -> Any:
    """A stack, or None once it is deleted."""
    try:
        return heat.get_stack(stack_id)
    except NotFoundException:
        return None


def _state(seen: Any) -> str:
    return f"{seen.status}: {seen.status_reason}"


def wait(heat: Any, stack_id: str, status: str, deadline: float = DEADLINE) -> Any:
    """Wait for a stack's status; fail at once on a failed state, with heat's reason."""
    return wait_for(
        f"stack to be {status}",
        lambda: heat.get_stack(stack_id),
        done=lambda seen: seen.status == status,
        failed=lambda seen: _state(seen) if seen.status.endswith("_FAILED") else None,
        deadline=deadline,
        interval=2,
        show=_state,
    )


def create(
    heat: Any, name: str, body: Template, parameters: Mapping[str, Any] | None = None, *, rollback: bool = False
) -> str:
    """Ask for a stack and return its id, without waiting."""
    stack = heat.create_stack(
        name=name,
        template=body,
        parameters=dict(parameters or {}),
        is_rollback_disabled=not rollback,
        timeout_mins=round(patient(10)),
    )
    return str(stack.id)


def update(heat: Any, stack_id: str, body: Template, parameters: Mapping[str, Any] | None = None) -> Any:
    """Update a stack's template and wait for completion."""
    stack = heat.get_stack(stack_id)
    sent = {"template": body, "parameters": dict(parameters or {})}
    answer = heat.put(f"/stacks/{stack.name}/{stack.id}", json=sent)
    assert answer.status_code == 202, answer.text
    return wait(heat, stack_id, "UPDATE_COMPLETE")


def delete(heat: Any, stack_id: str) -> None:
    """Delete a stack and wait until it is gone."""
    heat.delete_stack(stack_id, ignore_missing=False)
    wait_for(
        "the stack to be gone",
        lambda: fetched(heat, stack_id),
        done=lambda seen: seen is None,
        failed=lambda seen: str(seen.status_reason) if seen.status == "DELETE_FAILED" else None,
        deadline=DEADLINE,
        interval=2,
        show=_state,
    )


def wait_servers_gone(project: Project) -> None:
    """Wait until nova lists no server of the project; one that is not DELETED is a leftover of heat.

    Nova marks a server DELETED before it removes the record (``ComputeManager._delete_instance``);
    heat does not wait for that (``NovaClientPlugin.check_delete_server_complete``).
    """

    def show(left: list[Any]) -> str:
        return ", ".join(f"{server.name}: {server.status}" for server in left)

    wait_for(
        "nova to remove the stack's server",
        lambda: list(project.connection.compute.servers()),
        done=lambda left: not left,
        failed=lambda left: show(left) if any(server.status != "DELETED" for server in left) else None,
        deadline=GONE_DEADLINE,
        show=show,
    )
