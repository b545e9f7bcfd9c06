"""How long a lab is left alone after an answer."""

from __future__ import annotations

import pytest

from labctl.host.polling import pause


@pytest.mark.parametrize(("took", "seconds"), [(0.01, 1), (1, 2), (2, 4), (3, 5), (5, 5), (12, 12)])
def test_a_slow_answer_is_followed_by_a_longer_pause(took: float, seconds: float) -> None:
    assert pause(took, 1) == seconds
