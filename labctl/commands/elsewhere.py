"""``labctl --host URL``: the command runs on another machine, with this terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labctl.commands.console import progress
from labctl.commands.forward import told
from labctl.commands.terminal import complain
from labctl.remote import forward, machine
from labctl.remote import run as remote
from labctl.remote.connection import Connection, LostError


def run(url: str, root: Any, words: Sequence[str]) -> int:
    """Run a command on the machine of a URL; its status, or 255 when the connection is lost.

    :param root: labctl's own commands.
    :raises LabError: the machine cannot be reached, or not be used.
    """
    with progress(), Connection(machine.parse(url)) as connection:
        try:
            if words[:1] == ["forward"] and {"-h", "--help"}.isdisjoint(words):
                return _forward(connection, root, words[1:])
            return remote.run(connection, root, words)
        except LostError as error:
            complain(error.message, error.hint)
            return remote.LOST


def _forward(connection: Connection, root: Any, words: Sequence[str]) -> int:
    """Open a lab there on this machine's 127.0.0.1."""
    given = root.commands["forward"].make_context("forward", list(words)).params
    try:
        with forward.opened(connection, given["name"], given["what"] or ()) as opened:
            told(given["name"], opened.rows, given["output"])
            return opened.wait()
    except forward.UnopenedError as error:
        return error.status
