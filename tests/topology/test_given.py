"""Files that somebody named, and what is in their place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import ROOT, write

from labctl.errors import LabError
from labctl.host import process
from labctl.nightly import matrix
from labctl.topology import given, load

SPECIAL = {"/dev/zero": "larger than 1 MiB", "/dev/null": "empty", "/proc/self/mem": "cannot be read"}


@pytest.mark.parametrize(("file", "said"), SPECIAL.items())
@pytest.mark.parametrize("read", [load.load, matrix.load])
def test_a_device_is_no_file(read: object, file: str, said: str) -> None:
    with pytest.raises(LabError, match=f"{file}:1:1: .*{said}"):
        read(Path(file))  # type: ignore[operator]


@pytest.mark.parametrize("read", [load.load, matrix.load])
def test_a_fifo_that_nobody_writes_to_ends(read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LabError, match="FIFO that nobody writes to"):
        read(tmp_path / "fifo")  # type: ignore[operator]


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    write(tmp_path)
    labctl = f"{sys.executable} -m labctl validate"
    script = f"{labctl} <(sleep 0.2; cat {tmp_path}/lab.yaml) && cat {tmp_path}/lab.yaml | {labctl} -"
    done = process.run(["bash", "-c", script], cwd=ROOT)
    assert done.stdout.count(": valid (zed on debian12; first, second)") == 2


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 5000, "a\0b", "."])
def test_a_name_that_no_file_can_have_is_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"not found|unknown topology"):
        load.find(name)
    (tmp_path / "nightly.yaml").write_text(f"matrix: [{{topology: {'x' * 300}}}]")
    with pytest.raises(LabError, match=r"nightly.yaml:1:\d+: .*unknown topology"):
        matrix.load(tmp_path / "nightly.yaml")
