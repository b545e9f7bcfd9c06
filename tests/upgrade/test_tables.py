"""Whether a database is at the last revision: alembic's, and the numbers of sqlalchemy-migrate before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from looking import seen


def tables(place: Path, alembic: str, migrate: str) -> tuple[int, str]:
    """Ask about nova's tables of a node whose nova is in ``place/lib/site-packages/nova``."""
    (place / "lib/site-packages/nova").mkdir(parents=True, exist_ok=True)
    own = place / "bin"
    own.mkdir(exist_ok=True)
    manage = own / "nova-manage"  # its first line names its interpreter
    manage.write_text(f"#!{own}/python\n")
    manage.chmod(0o755)
    (place / "rows").write_text(f"{migrate}\n" if migrate else "")
    mysql = (
        'case "$*" in *information_schema*) echo 100 ;; '
        f"*alembic_version*) echo {alembic} | grep . ;; *migrate_version*) cat {place}/rows ;; esac"
    )
    return seen("look_tables nova nova", place, {"mysql": mysql, "python": f"echo {place}/lib/site-packages/nova"})


@pytest.fixture
def nova(tmp_path: Path) -> Path:
    """A nova with two migrations of sqlalchemy-migrate."""
    versions = tmp_path / "lib/site-packages/nova/db/sqlalchemy/migrate_repo/versions"
    versions.mkdir(parents=True)
    for name in ("391_first.py", "402_last.py", "__init__.py"):
        (versions / name).write_text("")
    (versions.parent / "migrate.cfg").write_text("[db_settings]\n# names it\nrepository_id=nova\n")
    return tmp_path


ROW = "{}\tnova"


def test_the_last_number_is_the_last_revision(nova: Path) -> None:
    assert tables(nova, "", ROW.format(402)) == (0, "")


def test_a_sync_that_was_left_out_is_named(nova: Path) -> None:
    assert tables(nova, "", ROW.format(391)) == (1, "nova is at 391 of nova, and 402 was not applied\n")


def test_numbers_of_migrations_that_are_gone_mean_that_no_sync_has_run(tmp_path: Path) -> None:
    status, said = tables(tmp_path, "", ROW.format(402))
    assert (status, said) == (1, "nova is at 402 of nova, migrations that nova no longer has\n")


def test_a_repository_may_move_and_another_may_be_dropped(nova: Path) -> None:
    """Keystone did both in Yoga: database rows still have the old paths, and the number of the dropped one."""
    assert tables(nova, "", f"{ROW.format(402)}\n109\tdropped") == (0, "")
    assert tables(nova, "", f"{ROW.format(391)}\n109\tdropped") == (
        1,
        "nova is at 391 of nova, and 402 was not applied\n",
    )


def test_alembic_counts_where_it_is_known_whatever_numbers_are_left(tmp_path: Path) -> None:
    assert tables(tmp_path, "8f2f1571d55b", ROW.format(402)) == (0, "")


def test_a_database_without_either_is_left_alone(tmp_path: Path) -> None:
    assert tables(tmp_path, "", "") == (0, "")
