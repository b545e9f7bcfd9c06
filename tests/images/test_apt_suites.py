"""The machine's apt sources, for another suite of Debian."""

from __future__ import annotations

import pytest

from labctl.images.apt import for_suite

DEB822 = """Types: deb
URIs: http://mirror/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror/debian-security
Suites: bookworm-security
Components: main
"""


def test_every_suite_of_a_file_is_another() -> None:
    made = for_suite(DEB822, "trixie")
    assert "Suites: trixie trixie-updates\n trixie\nComponents: main\n" in made
    assert "Suites: trixie-security\n" in made
    assert made.replace("trixie", "") == DEB822.replace("bookworm-backports", "").replace("bookworm", "")
    assert for_suite(made, "trixie") == made


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("deb http://mirror/debian bookworm main", "deb http://mirror/debian trixie main"),
        ("deb [arch=amd64] http://m/debian stable main", "deb [arch=amd64] http://m/debian trixie main"),
        ("deb http://m/debian-security buster/updates main", "deb http://m/debian-security trixie-security main"),
        ("deb-src http://m/debian bookworm-updates main", "deb-src http://m/debian trixie-updates main"),
        ("deb http://m/debian bookworm-proposed-updates main", "deb http://m/debian trixie main"),
        ("# deb http://m/debian bookworm main", "# deb http://m/debian bookworm main"),
        ("deb file:/packages ./", "deb file:/packages ./"),
    ],
)
def test_one_line_sources(line: str, other: str) -> None:
    assert for_suite(f"{line}\n", "trixie") == f"{other}\n"
