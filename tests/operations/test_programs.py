"""Programs, run by a real shell on real files: commands, waiting, side by side, what is printed; and their text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_in import MARKER, Machine, as_root, chain, file
from support import planned, specify, variants

from labctl.host import process
from labctl.operations import script
from labctl.operations.node import Chain, Command, Parallel, Wait
from labctl.secret import MARK, Secret

# --- commands --------------------------------------------------------------------------------------


def test_a_command_without_a_test_runs_every_time(machine: Machine) -> None:
    command = Command("count", f"echo x >>{machine.root}/count")
    assert [machine.run(command).states, machine.run(command).states] == [["changed"], ["changed"]]
    assert (machine.root / "count").read_text() == "x\nx\n"


def test_a_check_changes_nothing(machine: Machine) -> None:
    assert machine.run(Command("look", "true", changes=False)).states == ["ok"]


def test_a_failing_command_shows_its_output_and_stops_the_program(machine: Machine) -> None:
    ran = machine.run(
        Command("first", "true"),
        Command("bad", "echo to stdout; echo to stderr >&2; false"),
        Command("never", f"touch {machine.root}/never"),
    )

    assert ran.states == ["changed", "failed"]
    assert ran.said(1) == "to stdout\nto stderr"
    assert ran.status == 1
    assert not (machine.root / "never").exists()


def test_output_of_what_works_stays_on_the_node(machine: Machine) -> None:
    ran = machine.run(Command("talk", "echo something; echo '##labctl 7 failed 1'"))
    assert "something" not in ran.text
    assert ran.states == ["changed"]
    assert ran.output(0).startswith("something\n")


def test_a_command_waits_for_no_input(machine: Machine) -> None:
    assert machine.run(Command("read", "cat")).states == ["changed"]


def test_text_over_several_lines_keeps_its_columns(machine: Machine) -> None:
    path = machine.root / "text"
    quoted = Command("quoted", f"printf '%s' 'a\nb\n\n  c' >{path}")
    document = Command("document", f"cat >>{path} <<EOF\nd\n e\nEOF")

    assert machine.run(quoted, document).states == ["changed", "changed"]
    assert path.read_text() == "a\nb\n\n  cd\n e\n"


@as_root
def test_a_command_runs_under_the_account_it_names(machine: Machine) -> None:
    ran = machine.run(Command("who", 'id -un; echo "it\'s $((1 + 1))"', user="nobody", changes=False))
    assert ran.states == ["ok"]
    assert ran.output(0) == "nobody\nit's 2\n"


def test_a_chain_runs_only_what_is_missing(machine: Machine) -> None:
    (machine.root / "a").mkdir()

    assert machine.run(chain(machine)).states == ["changed"]
    assert (machine.root / "b").is_dir()


def test_a_chain_ends_at_its_first_failure(machine: Machine) -> None:
    commands = (
        Command("bad", "echo no such table; false"),
        Command("never", f"touch {machine.root}/never"),
    )
    ran = machine.run(Chain("tables", commands))

    assert ran.states == ["failed"]
    assert ran.said(0) == "no such table"
    assert not (machine.root / "never").exists()


def test_a_secret_reaches_the_node_and_only_the_node(machine: Machine) -> None:
    path = machine.root / "etc" / "it.conf"
    wanted = (
        file(machine, "password = \x02GLANCE_PASS\x03\n"),
        Command("use", "[ \x02GLANCE_PASS\x03 = s3cretvalue ]"),
    )

    ran = machine.run(*wanted, secrets={"GLANCE_PASS": Secret("s3cretvalue")})

    assert ran.states == ["changed", "changed"]
    assert path.read_text() == "password = s3cretvalue\n"
    assert "s3cretvalue" not in ran.text
    with pytest.raises(KeyError):
        machine.run(*wanted, secrets={})


# --- waiting and running side by side --------------------------------------------------------------


def test_a_wait_ends_when_its_test_passes(machine: Machine) -> None:
    count = f"echo x >>{machine.root}/tries; [ $(grep -c x {machine.root}/tries) -ge 3 ]"
    assert machine.run(Wait("third time", count, seconds=20)).states == ["ok"]
    assert (machine.root / "tries").read_text() == "x\nx\nx\n"


def test_a_wait_that_runs_out_of_time_shows_what_it_saw_last(machine: Machine) -> None:
    ran = machine.run(Wait("never", "echo HTTP 503; false", ("keystone",), seconds=1))

    assert ran.states == ["failed"]
    assert "not so after 1 s" in ran.said(0)
    assert "last seen: HTTP 503" in ran.said(0)
    assert "journal of keystone" in ran.said(0)


@as_root
def test_a_failed_unit_is_shown_with_the_logs_that_it_names(machine: Machine, tmp_path: Path) -> None:
    logs = Path("/var/log") / f"labctl-{tmp_path.name}-{os.getpid()}"
    logs.mkdir()
    try:
        (logs / "api.log").write_text("no such option\n")
        (logs / "uwsgi.log").write_text("no python application found\n")
        ini = machine.root / "api-uwsgi.ini"
        ini.write_text(f"[uwsgi]\nlogto = {logs}/uwsgi.log\nthreads = 4\n")
        (machine.state / "unit-openstack-glance-api").write_text(
            f"[Service]\nExecStart=/usr/bin/glance-api --ini {ini} --log-file {logs}/api.log\n"
        )
        ran = machine.run(Wait("never", "false", ("openstack-glance-api",), seconds=1))
    finally:
        shutil.rmtree(logs)

    assert f"== {logs}/api.log\nno such option" in ran.said(0)
    assert f"== {logs}/uwsgi.log\nno python application found" in ran.said(0)


def test_a_wait_whose_test_hangs_keeps_its_deadline(machine: Machine) -> None:
    ran = machine.run(Wait("hangs", "echo before; sleep 25", seconds=1))
    assert ran.states == ["failed"]
    assert "last seen: before" in ran.said(0)


@pytest.mark.parametrize("how", ["failed", "restarts"])
def test_a_wait_ends_at_once_when_its_unit_has_failed(machine: Machine, how: str) -> None:
    (machine.state / f"{how}-keystone").write_text("5")
    ran = machine.run(Wait("answers", "false", ("keystone",), seconds=25))

    assert ran.states == ["failed"]
    assert f"unit keystone is {'failed' if how == 'failed' else 'active'}" in ran.said(0)
    assert "journal of keystone" in ran.said(0)


def meet(root: Path, mine: str, other: str) -> Command:
    """Succeeds only while the other one runs too."""
    wait = f"touch {root}/{mine}; for i in $(seq 100); do [ -e {root}/{other} ] && exit 10; sleep 0.05; done; exit 1"
    return Command(mine, wait)


def test_parallel_operations_run_side_by_side(machine: Machine) -> None:
    group = Parallel((meet(machine.root, "a", "b"), meet(machine.root, "b", "a")), jobs=2)
    assert machine.run(group).states == ["changed", "changed"]


def test_no_more_jobs_run_at_once_than_allowed(machine: Machine) -> None:
    alone = f"mkdir {machine.root}/busy && sleep 0.1 && rmdir {machine.root}/busy"
    assert machine.run(Parallel(tuple(Command(n, alone) for n in "abc"), jobs=1)).states == ["changed"] * 3


def test_a_failure_in_a_group_lets_the_group_end_and_stops_the_program(machine: Machine) -> None:
    group = Parallel((Command("bad", "echo broken; false"), Command("good", f"touch {machine.root}/good")), jobs=1)
    ran = machine.run(group, Command("never", f"touch {machine.root}/never"))

    assert ran.states == ["failed", "changed"]
    assert ran.said(0) == "broken"
    assert ran.status == 1
    assert (machine.root / "good").exists()
    assert not (machine.root / "never").exists()


def test_an_empty_group_is_nothing_to_do(machine: Machine) -> None:
    assert machine.run(Parallel(()), Command("next", "true")).states == ["changed"]


def test_operations_after_a_group_keep_their_numbers(machine: Machine) -> None:
    look = Command("look", "true", changes=False)
    ran = machine.run(look, Parallel((look, look)), Command("last", "echo it is the last; false"))
    assert ran.states == ["ok", "ok", "ok", "failed"]
    assert ran.said(3) == "it is the last"


def test_markers_carry_nanoseconds(machine: Machine) -> None:
    ran = machine.run(Command("sleep", "sleep 0.2"))
    (marker,) = MARKER.finditer(ran.text)
    assert 0.2e9 <= int(marker[3]) < 10e9


# --- the text of programs --------------------------------------------------------------------------


@pytest.fixture
def shellcheck() -> Callable[[list[Path]], None]:
    if process.missing("shellcheck"):
        pytest.skip("shellcheck is not installed")

    def check(paths: list[Path]) -> None:
        # SC2016: a test in single quotes is meant for another sh, which expands it
        done = process.run(["shellcheck", "-s", "sh", "-e", "SC2016", *paths], check=False, timeout=120)
        assert done.returncode == 0, done.stdout

    return check


def test_the_prelude_passes_shellcheck(shellcheck: Callable[[list[Path]], None]) -> None:
    shellcheck([Path(script.__file__).with_name("prelude.sh")])


@pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
def test_every_program_of_a_plan_passes_shellcheck(
    topology: Path, base: str, tmp_path: Path, shellcheck: Callable[[list[Path]], None]
) -> None:
    paths = []
    for stage in planned(specify(topology, base=base)).stages:
        for when, part in (("first", stage.nodes), ("after", stage.after)):
            for node, items in part.items():
                path = tmp_path / f"{stage.name}-{when}-{node}.sh"
                path.write_text(MARK.sub("dummyvalue", script.program(stage.name, items)))
                paths.append(path)
    assert paths
    shellcheck(paths)
