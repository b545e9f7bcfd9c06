"""``labctl WORDS`` in the process of a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labctl import __main__


class Labctl:
    """Runs labctl's command line: status, output, errors.

    :param capture: pytest's ``capsys`` or ``capfd``.
    :param bugs: false when labctl may not end with a bug, whatever the words.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *, bugs: bool = True
    ) -> None:
        self._monkeypatch, self._capture, self._bugs = monkeypatch, capture, bugs

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["labctl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            __main__.run()
        printed = self._capture.readouterr()
        if not self._bugs:
            assert "bug in labctl" not in printed.err, printed.err
            assert "Traceback" not in printed.err
        return int(left.value.code or 0), printed.out, printed.err
