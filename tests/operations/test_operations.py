"""Operations, compiled and run by a real shell on real files; only package and service managers are stand-ins."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_in import ME, MY_GROUP, RPM, TOOLS, Machine, as_root, chain, file, invocations

from labctl.operations import node, populate
from labctl.operations.node import (
    CHANGED,
    Assign,
    Chain,
    Command,
    Database,
    Directory,
    Distributions,
    File,
    Link,
    Operation,
    Packages,
    Record,
    Unit,
    Wait,
)
from labctl.operations.populate import Invocations
from labctl.operations.script import prelude
from labctl.secret import Secret


def package_file(machine: Machine, text: str) -> Path:
    path = machine.root / "shipped.ini"
    path.write_text(text)
    return path


def assign(machine: Machine, key: str = "processes", value: str = "1") -> Assign:
    return Assign(str(machine.root / "shipped.ini"), ((key, value),))


def record(machine: Machine, stamp: str, run: str = "echo said") -> Record:
    return Record("client", f"echo >>{machine.root}/asked; {run}", stamp, directory=str(machine.root / "verify"))


def distributions(machine: Machine, *present: str) -> Distributions:
    """A check of two projects in an environment that has these distributions."""
    environment = machine.root / "opt/train"
    for name in present:
        (environment / "lib/python3.7/site-packages" / f"{name}.dist-info").mkdir(parents=True)
    return Distributions(str(environment), (("keystone", "16.0.2"), ("openstack-placement", "2.0.1")))


def whole(machine: Machine) -> Distributions:
    installed = (machine.root / "opt/train").exists()
    return distributions(machine, *(() if installed else ("keystone-16.0.2", "openstack_placement-2.0.1")))


CASES: dict[type, tuple[Callable[[Machine], Operation], str]] = {
    File: (file, "changed"),
    Directory: (lambda m: Directory(str(m.root / "made"), ME, MY_GROUP, "0750"), "changed"),
    Link: (lambda m: Link(str(m.root / "link"), "/nowhere"), "changed"),
    Assign: (assign, "changed"),
    Command: (lambda m: Command("touch", f"touch {m.root}/x", unless=f"[ -e {m.root}/x ]"), "changed"),
    Packages: (lambda m: Packages(("keystone", "chrony")), "changed"),
    Distributions: (whole, "ok"),
    Unit: (lambda m: Unit("keystone", ("input",)), "changed"),
    Record: (lambda m: record(m, "one"), "ok"),
    Wait: (lambda m: Wait("there", "true"), "ok"),
    Database: (lambda m: Database("glance", "glance", "secret1"), "changed"),
    Chain: (chain, "changed"),
    Invocations: (invocations, "changed"),
}


def test_every_kind_of_operation_is_tried_below() -> None:
    kinds = {
        value
        for value in (vars(node) | vars(populate)).values()
        if isinstance(value, type) and hasattr(value, "shell") and value is not Operation
    }
    assert kinds == set(CASES)


@pytest.mark.parametrize("kind", CASES, ids=lambda k: k.__name__)
def test_an_operation_changes_once_and_then_has_nothing_to_do(kind: type, machine: Machine) -> None:
    make, first = CASES[kind]

    assert machine.run(make(machine)).states == [first]
    again = machine.run(make(machine))

    assert again.states == ["ok"]
    assert again.status == 0


@pytest.mark.parametrize("kind", CASES, ids=lambda k: k.__name__)
def test_every_operation_has_a_title_and_a_text_for_the_guide(kind: type, machine: Machine) -> None:
    operation = CASES[kind][0](machine)
    assert operation.title
    assert "\n" not in operation.title
    assert operation.guide().strip()


# --- files -----------------------------------------------------------------------------------------


def test_a_file_arrives_byte_by_byte_and_leaves_nothing_beside_it(machine: Machine) -> None:
    content = "quotes ' \" $HOME `id` \\n\n\ttab, ünïcode, no newline at the end"
    machine.run(file(machine, content))

    path = machine.root / "etc" / "it.conf"
    assert path.read_text() == content
    assert path.stat().st_mode & 0o7777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["it.conf"]


def test_changed_content_is_put_back(machine: Machine) -> None:
    machine.run(file(machine))
    path = machine.root / "etc" / "it.conf"
    path.write_text("edited by hand\n")

    assert machine.run(file(machine)).states == ["changed"]
    assert path.read_text() == "a = 1\n"


def test_a_changed_mode_is_put_back(machine: Machine) -> None:
    machine.run(file(machine))
    path = machine.root / "etc" / "it.conf"
    path.chmod(0o666)

    assert machine.run(file(machine)).states == ["changed"]
    assert path.stat().st_mode & 0o7777 == 0o640


@as_root
def test_a_changed_owner_is_put_back(machine: Machine) -> None:
    machine.run(file(machine))
    path = machine.root / "etc" / "it.conf"
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)

    assert machine.run(file(machine)).states == ["changed"]
    assert path.owner() == ME


def test_a_file_for_an_account_that_does_not_exist_fails_and_says_so(machine: Machine) -> None:
    path = machine.root / "etc" / "it.conf"
    ran = machine.run(File(str(path), "x\n", owner="nosuchuser"))

    assert ran.states == ["failed"]
    assert "nosuchuser" in ran.said(0)
    assert not path.exists()


def test_a_directory_gets_its_mode_back(machine: Machine) -> None:
    wanted = Directory(str(machine.root / "deep" / "made"), ME, MY_GROUP, "0750")
    machine.run(wanted)
    path = machine.root / "deep" / "made"
    assert path.stat().st_mode & 0o7777 == 0o750
    path.chmod(0o777)

    assert machine.run(wanted).states == ["changed"]
    assert path.stat().st_mode & 0o7777 == 0o750


def test_a_link_is_turned_even_when_it_points_to_a_directory(machine: Machine) -> None:
    link = machine.root / "link"
    link.symlink_to(machine.state)

    assert machine.run(Link(str(link), "/nowhere")).states == ["changed"]
    assert str(link.readlink()) == "/nowhere"


@pytest.mark.parametrize(
    ("shipped", "after"),
    [
        ("[uwsgi]\n", "[uwsgi]\nprocesses = 1\n"),
        ("processes = 8\nthreads = 2\n", "processes = 1\nthreads = 2\n"),
        ("processes=8\n", "processes = 1\n"),
        ("#processes = 8\nx = 1\n", "processes = 1\nx = 1\n"),
        ("; processes = 8\n", "processes = 1\n"),
        ("# processes = 16\nprocesses = 8\n", "# processes = 16\nprocesses = 1\n"),
        ("processes = 1\nx = 1\nprocesses = 8\n", "processes = 1\nx = 1\n"),
        ("subprocesses = 8\n", "subprocesses = 8\nprocesses = 1\n"),
        ("no newline", "no newline\nprocesses = 1\n"),
    ],
    ids=["absent", "active", "tight", "hash", "semicolon", "comment first", "twice", "other key", "no newline"],
)
def test_assign_sets_one_line_and_keeps_the_rest(machine: Machine, shipped: str, after: str) -> None:
    path = package_file(machine, shipped)

    assert machine.run(assign(machine)).states == ["changed"]
    assert path.read_text() == after
    assert machine.run(assign(machine)).states == ["ok"]


def test_assign_leaves_a_file_alone_that_says_it_already(machine: Machine) -> None:
    path = package_file(machine, "a = 2\nprocesses = 1\n# processes = 9\n")
    before = path.stat()

    assert machine.run(assign(machine)).states == ["ok"]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_assign_writes_a_value_as_it_is(machine: Machine) -> None:
    path = package_file(machine, "")
    value = "a\\nb & 'c' \"d\" $e"

    machine.run(assign(machine, "key", value))

    assert path.read_text() == f"key = {value}\n"


def test_assign_keeps_owner_and_mode_of_the_packages_file(machine: Machine) -> None:
    path = package_file(machine, "processes = 8\n")
    path.chmod(0o604)

    machine.run(Assign(str(path), (("processes", "1"), ("threads", "4")), separator="="))

    assert path.read_text() == "processes=1\nthreads=4\n"
    assert path.stat().st_mode & 0o7777 == 0o604


def test_assign_leaves_no_copy_of_a_secret_that_others_read(machine: Machine) -> None:
    path = package_file(machine, "")
    path.chmod(0o600)
    seen = machine.root / "seen"
    shown = f'cmp() {{ stat -c %a "$2" >{seen}; command cmp "$@"; }}'
    body = f"{prelude()}\n{shown}\nassign {path} password = hush"
    assert subprocess.run(["sh", "-c", body], check=False).returncode == CHANGED
    assert seen.read_text() == "600\n"


# --- records ---------------------------------------------------------------------------------------


def test_a_record_is_made_once_for_each_state_of_the_lab(machine: Machine) -> None:
    kept = machine.root / "verify" / "client.txt"
    for stamp in ("one", "one", "two"):
        assert machine.run(record(machine, stamp)).states == ["ok"]
    assert kept.read_text() == "said\n# verified: two\n"
    assert (machine.root / "asked").read_text().count("\n") == 2


def test_a_verification_that_fails_is_shown_and_not_kept(machine: Machine) -> None:
    ran = machine.run(record(machine, "one", "echo no agent is alive; false"))

    assert ran.states == ["failed"]
    assert "no agent is alive" in ran.said(0)
    assert not (machine.root / "verify" / "client.txt").exists()


# --- packages, units, databases --------------------------------------------------------------------


def test_only_missing_packages_are_installed(machine: Machine) -> None:
    (machine.state / "info" / "chrony.list").touch()
    (machine.state / "info" / "libvirt0:amd64.list").touch()

    assert machine.run(Packages(("chrony", "libvirt0", "keystone"))).states == ["changed"]
    assert machine.log("apt-get") == ["install -y --no-install-recommends keystone"]


def test_a_package_that_cannot_be_installed_fails(machine: Machine) -> None:
    assert machine.run(Packages(("broken",))).states == ["failed"]


def test_a_project_of_another_version_fails_and_says_which_is_there(machine: Machine) -> None:
    ran = machine.run(distributions(machine, "keystone-16.0.2", "openstack_placement-2.0.0"))

    assert ran.states == ["failed"]
    assert ran.said(0) == f"openstack_placement-2.0.1 is not in {machine.root}/opt/train, openstack_placement-2.0.0 is"


def test_every_absent_project_is_named_at_once(machine: Machine) -> None:
    ran = machine.run(distributions(machine))

    assert ran.states == ["failed"]
    assert [line.partition(" ")[0] for line in ran.said(0).splitlines()] == [
        "keystone-16.0.2",
        "openstack_placement-2.0.1",
    ]


def test_a_node_without_dpkg_asks_rpm_and_yum(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", RPM, TOOLS)
    (machine.state / "rpm-chrony").touch()
    wanted = Packages(("chrony", "openstack-keystone"), "redhat")

    assert [machine.run(wanted).states, machine.run(wanted).states] == [["changed"], ["ok"]]
    assert machine.log("yum") == ["install -y openstack-keystone"]


def restarts(machine: Machine) -> int:
    return machine.log("systemctl").count("restart keystone")


def test_a_unit_is_enabled_and_started_once(machine: Machine) -> None:
    machine.run(Unit("keystone", ("a",)))
    machine.run(Unit("keystone", ("a",)))

    assert restarts(machine) == 1
    assert (machine.state / "enabled-keystone").exists()


def test_a_masked_unit_is_unmasked_and_enabled(machine: Machine) -> None:
    (machine.state / "masked-keystone").touch()
    assert machine.run(Unit("keystone")).states == ["changed"]
    assert (machine.state / "enabled-keystone").exists()


def test_units_are_enabled_without_reading_all_of_them_again(machine: Machine) -> None:
    for name in ("keystone", "glance-api", "keystone"):
        machine.run(Unit(name))
    changing = [said for said in machine.log("systemctl") if "enable " in said or "mask" in said or "reload" in said]
    assert changing == ["--no-reload enable keystone", "--no-reload enable glance-api"]


def test_a_unit_is_restarted_when_its_inputs_changed(machine: Machine) -> None:
    machine.run(Unit("keystone", ("a",)))
    assert machine.run(Unit("keystone", ("b",))).states == ["changed"]
    assert restarts(machine) == 2


def test_a_unit_is_restarted_when_a_secret_in_its_files_changed(machine: Machine) -> None:
    unit = Unit("keystone", ("connection = \x02DBPASS\x03",))

    def run(value: str) -> list[str]:
        return machine.run(unit, secrets={"DBPASS": Secret(value)}).states

    assert [run("one"), run("one"), run("two")] == [["changed"], ["ok"], ["changed"]]
    kept = (machine.root / "stamps" / "keystone").read_text()
    assert "two" not in kept


def test_a_unit_that_is_starting_is_restarted_when_it_has_started(machine: Machine) -> None:
    """MariaDB 11.8 that is told to end while it starts never does."""
    (machine.state / "starting-keystone").write_text("asked\nasked\n")
    assert machine.run(Unit("keystone")).states == ["changed"]
    said = [line.split()[0] for line in machine.log("systemctl") if "SubState" in line or "restart" in line]
    assert said == ["show", "show", "show", "restart"]


def test_a_unit_that_stopped_is_started_again(machine: Machine) -> None:
    machine.run(Unit("keystone"))
    (machine.state / "active-keystone").unlink()
    assert machine.run(Unit("keystone")).states == ["changed"]


def test_a_unit_that_does_not_start_shows_its_log_and_is_tried_again(machine: Machine) -> None:
    (machine.state / "broken-keystone").touch()
    ran = machine.run(Unit("keystone"))
    assert ran.states == ["failed"]
    assert "journal of keystone" in ran.said(0)
    assert "look further: systemctl status keystone" in ran.said(0)

    (machine.state / "broken-keystone").unlink()
    assert machine.run(Unit("keystone")).states == ["changed"]


def test_a_database_gets_both_grants_and_a_new_password(machine: Machine) -> None:
    machine.run(Database("glance", "glance", "first1"))
    (sql,) = machine.log("sql")
    assert "CREATE DATABASE IF NOT EXISTS glance CHARACTER SET utf8;" in sql
    for host in ("localhost", "%"):
        assert f"GRANT ALL PRIVILEGES ON glance.* TO 'glance'@'{host}' IDENTIFIED BY 'first1';" in sql

    assert machine.run(Database("glance", "glance", "other1")).states == ["changed"]
