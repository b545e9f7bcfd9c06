"""A lab's APIs, asked as its admin from where they can be reached: inside the lab's namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from labctl import vantage
from labctl.drivers.base import Driver
from labctl.engine.api import Cloud
from labctl.images.guest import GuestImage
from labctl.lab.state import LabState
from labctl.plan.planner import context
from labctl.secret import Secret

T = TypeVar("T")


def ask(
    lab: LabState,
    driver: Driver,
    secrets: Mapping[str, Secret],
    question: Callable[[Cloud], T],
    guest: GuestImage | None = None,
) -> T:
    """Call a function with the lab's APIs.

    :param guest: what to upload, for a question that asks for that.
    :raises ClientException: they do not answer, or refuse (keystoneauth1).
    """
    ctx = context(lab.spec)
    with vantage.Inside(lab.namespace, lab.hosts_file) as inside:
        return inside.call(
            lambda: question(Cloud(lab.name, ctx.auth_url, ctx.lab.region, secrets, guest, driver.patience))
        )
