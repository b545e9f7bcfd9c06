"""A full disk: what frees space needs none, and whatever else needs some says so (a real small file system)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from labctl.host import process

#: Fills a file system of its own, in a mount namespace of its own.
FILL = """
import os, sys
from pathlib import Path
place = Path(sys.argv[1])
from labctl.host import files, lock
from labctl.errors import LabError
record = place / "lab.json"
files.rewrite(record, "x" * 5000)
with (place / "fill").open("wb") as sink:
    try:
        while True:
            sink.write(b"0" * 4096); sink.flush()
    except OSError:
        try: sink.close()
        except OSError: pass
os.environ["LABCTL_HOME"] = str(place)
"""


def full(tmp_path: Path, program: str) -> str:
    mount = 'mount -t tmpfs -o size=256k none "$1" && : > "$1/a.lock" && exec "$2" -c "$3" "$1"'
    words = ["unshare", "-m", "sh", "-c", mount, "sh", tmp_path, sys.executable, FILL + program]
    return process.run(words, timeout=60, check=False).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_record_gets_shorter_and_not_longer_on_a_full_disk(tmp_path: Path) -> None:
    said = full(
        tmp_path,
        "files.rewrite(record, 'short'); print(record.read_text())\n"
        "with (place / 'fill').open('ab') as sink:\n"
        "    try: sink.write(b'0' * 8192)\n"
        "    except OSError: pass\n",
    )
    assert said.startswith("short")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_lock_is_held_on_a_full_disk(tmp_path: Path) -> None:
    program = "with lock.held(place / 'a.lock', 'down', LabError): print('held')"
    assert full(tmp_path, program) == "held\n"
