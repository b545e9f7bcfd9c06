"""A signal ends labctl with its own status, wherever it comes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support import ROOT

from labctl.host import process

#: What stands for the command line's verbs.
BEGIN = "import ctypes, os, signal, sys; from labctl import __main__ as entry; sys.argv = ['labctl', 'list']\n"
END = "entry.app = app; entry.main()\n"
KILL = "os.kill(os.getpid(), signal.{name}); import time; time.sleep(30)"
PLACES = {
    "in a verb": "def app(**_):\n    {kill}\n",
    # Python 3.11 makes a RuntimeError of what comes there
    "while a class is made": (
        "class Descriptor:\n"
        "    def __set_name__(self, owner, name):\n"
        "        {kill}\n"
        "def app(**_):\n"
        "    class Made:\n"
        "        it = Descriptor()\n"
    ),
    # pydantic's core and others run Python code while they are imported
    "in code that an extension module runs": (
        "def app(**_):\n"
        "    code = 'import os, signal; ' + {kill!r}\n"
        "    ctypes.pythonapi.PyRun_SimpleString(code.encode())\n"
        "    raise KeyboardInterrupt\n"
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_labctl_with_its_status(place: str, name: str, tmp_path: Path) -> None:
    # a module, as `python -m labctl` is: Python looks at an interruption that was not handled as such a module ends
    (tmp_path / "stand_in.py").write_text(BEGIN + PLACES[place].format(kill=KILL.format(name=name)) + END)
    env = {"LABCTL_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = process.run([sys.executable, "-m", "stand_in"], timeout=60, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    assert "bug" not in done.stderr
    assert not list(tmp_path.glob("labctl-bug-*"))
