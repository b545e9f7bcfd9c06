"""Commands that share their program's imports, and tables that an image has ready."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in import ME, SHIMS, Machine, as_root, invocation, invocations

from labctl.operations.populate import Invocations

#: A server whose databases are directories, with a file for each table.
SERVER = """
    for last; do :; done
    case $* in
    *-N*) ls "$state/${last##*= }" 2>/dev/null | wc -l ;;
    *) mkdir -p "$state/$last" && [ ! -e "$state/refuses" ] && cat >"$state/$last/table" ;;
    esac"""
FILL = "fill_tables glance secret controller glance"


@pytest.fixture
def node(tmp_path: Path) -> Machine:
    count = """ls "$state/$(echo "$last" | sed "s/.*'\\\\(.*\\\\)'/\\\\1/")" 2>/dev/null | wc -l"""
    made = Machine(tmp_path, {**SHIMS, "mysql": SERVER.replace('ls "$state/${last##*= }" 2>/dev/null | wc -l', count)})
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/glance.sql").write_text("CREATE TABLE images;\n")
    return made


def notes(machine: Machine) -> list[str]:
    path = machine.root / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_commands_of_a_program_import_its_modules_once(node: Machine) -> None:
    ran = node.run(invocations(node, environment="KEY=word"))
    assert ran.states == ["changed"]
    assert notes(node) == ["import", f"{ME} word db sync", f"{ME} word cell0"]


def test_a_status_that_is_allowed_goes_on_and_another_ends_the_rest(node: Machine) -> None:
    each = (invocation(node, "end 2", allowed=2), invocation(node, "end 3"), invocation(node, "never"))
    ran = node.run(invocations(node, *each))
    assert ran.states == ["failed"]
    assert notes(node) == ["import", f"{ME}  end 2", f"{ME}  end 3"]

    node.run(invocations(node, *each))
    assert notes(node)[3:] == ["import", f"{ME}  end 3"], "what is done is not done again"


def test_a_command_without_a_stamp_is_known_by_its_test(node: Machine) -> None:
    key = node.root / "key"
    each = (invocation(node, "keys", stamp="", unless=f"[ -e {key} ]"), invocation(node, "admin"))
    key.touch()
    node.run(invocations(node, *each))
    assert notes(node) == ["import", f"{ME}  admin"]


def test_nothing_due_starts_nothing(node: Machine) -> None:
    node.run(invocations(node))
    assert node.run(invocations(node)).states == ["ok"]
    assert notes(node).count("import") == 1


@as_root
def test_each_command_has_its_account(node: Machine) -> None:
    node.root.chmod(0o755)
    (node.root / "notes").touch(0o666)
    (node.root / "notes").chmod(0o666)
    for directory in node.root.parents:
        if directory.owner() == "root" and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o755)
    node.run(invocations(node, invocation(node, "sync", user="nobody"), invocation(node, "keys")))
    assert notes(node) == ["import", "nobody  sync", "root  keys"]


def test_a_program_that_is_not_there_is_named(node: Machine) -> None:
    made = invocations(node)
    Path(made.program).unlink()
    ran = node.run(made)
    assert ran.states == ["failed"]
    assert "counted-manage: not found" in ran.said(0)


def test_modules_are_looked_for_where_the_program_is_and_not_in_the_current_directory(node: Machine) -> None:
    made = invocations(node)
    program = Path(made.program)
    program.write_text(program.read_text().replace("import main\n", "import main, note\nnote(repr(sys.path[:2]))\n", 1))
    node.run(made)
    assert f"['{node.root}', '{node.root}']" in notes(node)
    assert not any("''" in line for line in notes(node))


# --- tables of the image ---------------------------------------------------------------------------


def sync(machine: Machine) -> Invocations:
    """Commands that only fill tables."""
    each = (invocation(machine, "db sync", fills=True), invocation(machine, "definitions", fills=True))
    return invocations(machine, *each, filled=FILL)


def test_tables_of_the_image_spare_the_program(node: Machine) -> None:
    ran = node.run(sync(node))
    assert ran.states == ["changed"]
    assert notes(node) == []
    assert (node.state / "glance/table").read_text() == "CREATE TABLE images;\n"
    assert node.run(sync(node)).states == ["ok"]


def test_what_belongs_to_a_lab_is_made_on_tables_of_the_image(node: Machine) -> None:
    assert node.run(invocations(node, filled=FILL)).states == ["changed"]
    assert (node.state / "glance/table").exists()
    assert notes(node) == ["import", f"{ME}  cell0"]
    assert node.run(invocations(node, filled=FILL)).states == ["ok"]


def test_tables_that_are_there_are_the_programs(node: Machine) -> None:
    (node.state / "glance").mkdir()
    (node.state / "glance/older").touch()
    node.run(sync(node))
    assert not (node.state / "glance/table").exists()
    assert notes(node) == ["import", f"{ME}  db sync", f"{ME}  definitions"]


def test_an_image_without_tables_leaves_them_to_the_program(node: Machine) -> None:
    (node.root / "tables/glance.sql").unlink()
    assert node.run(sync(node)).states == ["changed"]
    assert notes(node)[0] == "import"


def test_what_a_killed_program_began_to_load_is_loaded_again(node: Machine) -> None:
    (node.state / "glance").mkdir()
    (node.state / "glance/table").write_text("half")
    (node.root / "stamps").mkdir()
    (node.root / "stamps/filling-glance").touch()
    node.run(sync(node))
    assert (node.state / "glance/table").read_text() == "CREATE TABLE images;\n"
    assert not (node.root / "stamps/filling-glance").exists()
    assert notes(node) == []


def test_tables_that_cannot_be_loaded_are_not_taken_for_done(node: Machine) -> None:
    (node.state / "refuses").touch()
    assert node.run(sync(node)).states == ["failed"]
    assert notes(node) == []
    (node.state / "refuses").unlink()
    assert node.run(sync(node)).states == ["changed"]
    assert (node.state / "glance/table").exists()
