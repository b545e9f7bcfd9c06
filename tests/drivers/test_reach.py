"""What a machine's console tells about one that is not reached."""

from __future__ import annotations

from pathlib import Path

from labctl.drivers import reach

BOOT = "[    0.000000] Linux version 6.1.0\n[    1.0] console [ttyS0] enabled\n"
PANIC = (
    "[ 1722.3] Kernel panic - not syncing: corrupted stack end detected inside scheduler\n[ 1722.4] CPU: 0 PID: 1755\n"
)


def test_a_panic_is_told_in_the_kernel_s_words(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    assert reach.panic(console) == ""
    console.write_text(BOOT)
    assert reach.panic(console) == ""
    console.write_text(BOOT + PANIC)
    assert reach.panic(console) == "Kernel panic - not syncing: corrupted stack end detected inside scheduler"


def test_the_panic_of_an_earlier_boot_is_none_of_this_one(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_text(BOOT + PANIC + BOOT)
    assert reach.panic(console) == ""
