"""The script that makes tables for an image: what it keeps, and what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.host import process
from labctl.images import ready
from labctl.services.schema import Schema

#: A server whose databases are files. It says at once that it is there.
SHIMS = {
    "mariadb-install-db": "",
    "mariadbd": "",
    "mysqladmin": "",
    "mysql": """
        for last; do :; done
        case $* in
        *-e*) name=${last#* EXISTS }; : >"$state/${name%% *}" ;;
        *) cat >"$state/$last" ;;
        esac""",
    "mysqldump": 'for last; do :; done; cat "$state/$last"',
}
#: Programs, by what they do with the database that the file of settings names: $name.
PROGRAMS = {
    "good": 'grep -qs "$*" "$state/$name" || echo "$*" >>"$state/$name"',
    "again": 'echo "$*" >>"$state/$name"',
    "broken": 'echo "half of $1" >>"$state/$name"; exit 1',
}
NAMED = 'name=$(sed -n "s,.*@localhost/\\([a-z_]*\\)?.*,\\1,p" "$2"); shift 2; '


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Where the dumps are, made of a schema by each kind of program."""
    bin_, state, place = (tmp_path / name for name in ("bin", "state", "made"))
    bin_.mkdir()
    state.mkdir()
    for name, body in {**SHIMS, **{name: NAMED + body for name, body in PROGRAMS.items()}}.items():
        (bin_ / name).write_text(f"#!/bin/sh\nstate={state}\n{body}\n")
        (bin_ / name).chmod(0o755)
    schemas = [Schema((f"{name}_api", f"{name}_cell"), name, ("db sync", "more")) for name in PROGRAMS]
    env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "LABCTL_TABLES": str(tmp_path / "work")}
    done = process.run(["sh", ready.SCRIPT, *ready.arguments(schemas, str(place))], env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "said").write_text(done.stdout)
    return place


def test_a_dump_has_what_every_command_made_for_each_database(made: Path) -> None:
    assert (made / "good_api.sql").read_text() == "db sync\nmore\n"
    assert (made / "good_cell.sql").read_text() == "db sync\nmore\n"


def test_a_schema_that_the_program_would_change_again_is_not_kept(made: Path) -> None:
    assert not list(made.glob("again*"))


def test_a_program_that_fails_leaves_no_half_of_its_tables(made: Path) -> None:
    assert not list(made.glob("broken*"))
    assert "labctl: no tables for broken_api,broken_cell" in (made.parent / "said").read_text()
