"""What all tests share: a home of their own, and golden files that a switch rewrites."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes the golden files instead of comparing with them."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden; look at the diff afterwards")


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labctl home of the test's own; system tests may use the machine's image store and choose theirs."""
    place = tmp_path / "labctl-home"
    if request.node.get_closest_marker("system") is None:
        monkeypatch.setenv("LABCTL_HOME", str(place))
    return place
