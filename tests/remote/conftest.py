"""A machine for ``--host``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from elsewhere import Sshd, machine


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd on the loopback; labctl there has a home of its own, with a space in its name."""
    place = tmp_path_factory.mktemp("elsewhere")
    with machine(place, place / "home there") as made:
        yield made
