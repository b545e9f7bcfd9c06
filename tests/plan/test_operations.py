"""Operations, compiled and run by a real shell on real files; only package and service managers are stand-ins."""

from __future__ import annotations

import getpass
import grp
import io
import os
import pwd
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import specify, variants

from labctl import process
from labctl.engine.node import archive
from labctl.plan import operations, script
from labctl.plan.operations import (
    Assign,
    Chain,
    Command,
    Database,
    Directory,
    Distributions,
    File,
    Item,
    Link,
    Operation,
    Packages,
    Parallel,
    Record,
    Unit,
    Wait,
)
from labctl.plan.planner import plan
from labctl.secret import MARK, Secret

ME = getpass.getuser()
MY_GROUP = grp.getgrgid(os.getgid()).gr_name
MARKER = re.compile(r"##labctl (\d+) (ok|changed|failed) (\d+)")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners and accounts, which needs root")

SHIMS = {
    "mysql": """
        case $2 in
        root) printf '%s\\n' "$4" >>"$state/sql" ;;
        *) grep -q "ON $7\\.\\* TO '$2'@'localhost' IDENTIFIED BY '$MYSQL_PWD'" "$state/sql" ;;
        esac""",
    "systemctl": """
        echo "$*" >>"$state/systemctl"
        case $1 in
        is-active)
            if [ "$2" = -q ]; then [ -e "$state/active-$3" ]; exit; fi
            if [ -e "$state/failed-$2" ]; then echo failed; else echo active; fi ;;
        is-enabled)
            if [ -e "$state/masked-$2" ]; then echo masked; exit 1; fi
            if [ -e "$state/enabled-$2" ]; then echo enabled; else echo disabled; exit 1; fi ;;
        unmask) rm "$state/masked-$2" ;;
        --no-reload) [ "$2" = enable ] && [ ! -e "$state/masked-$3" ] && touch "$state/enabled-$3" ;;
        restart) [ ! -e "$state/broken-$2" ] && touch "$state/active-$2" ;;
        cat) cat "$state/unit-$2" 2>/dev/null ;;
        show) echo "NRestarts=$(cat "$state/restarts-$4" 2>/dev/null || echo 0)" ;;
        esac""",
    "journalctl": 'echo "journal of $2"',
    "apt-get": """
        echo "$*" >>"$state/apt-get"
        for word; do
            case $word in -* | install) ;; broken) exit 100 ;; *) touch "$state/info/$word.list" ;; esac
        done""",
}
RPM = {
    "rpm": '[ -e "$state/rpm-$3" ]',
    "yum": 'echo "$*" >>"$state/yum"; shift 2; for p; do touch "$state/rpm-$p"; done',
}
#: What a node has besides its package manager.
TOOLS = ("cat", "cmp", "cut", "date", "dirname", "env", "mkdir", "mv", "nproc", "sed", "sh", "tail", "touch", "xargs")


@dataclass
class Ran:
    """What one run of a program printed."""

    status: int
    text: str
    place: Path

    @property
    def states(self) -> list[str]:
        """States by number; operations that did not run have none."""
        return [m[2] for m in sorted(MARKER.finditer(self.text), key=lambda m: int(m[1]))]

    def said(self, number: int) -> str:
        """What a failed operation printed."""
        head = f"##out {number} "
        return "\n".join(line.removeprefix(head) for line in self.text.splitlines() if line.startswith(head))

    def output(self, number: int) -> str:
        """What any operation printed."""
        return (self.place / f"{number}.out").read_text()


class Machine:
    """A directory that stands for a node: state of its shims, stamps, and a place for uploaded archives."""

    def __init__(self, root: Path, shims: dict[str, str], only: tuple[str, ...] = ()) -> None:
        self.root = root
        self.state = root / "state"
        (self.state / "info").mkdir(parents=True)
        bin_ = root / "bin"
        bin_.mkdir()
        for name, body in shims.items():
            shim = bin_ / name
            shim.write_text(f"#!/bin/sh\nstate={self.state}\n{body}\n")
            shim.chmod(0o755)
        for name in only:
            if found := shutil.which(name):
                (bin_ / name).symlink_to(found)
        self.path = str(bin_) if only else f"{bin_}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.runs = 0

    def run(self, *items: Item, secrets: dict[str, Secret] | None = None) -> Ran:
        """Upload and run, as the engine does."""
        self.runs += 1
        place = self.root / f"run{self.runs}"
        with tarfile.open(fileobj=io.BytesIO(archive("test", items, secrets or {}))) as tar:
            tar.extractall(place, filter="data")
        program = place / "program.sh"
        text = re.sub(r"^PATH=.*$", f"PATH={self.path}", program.read_text(), count=1, flags=re.MULTILINE)
        text = text.replace("stamps=/var/lib/labctl/stamps", f"stamps={self.root}/stamps")
        program.write_text(text.replace("/var/lib/dpkg/info", f"{self.state}/info"))
        done = process.run(["sh", program], check=False, timeout=30)
        assert done.stderr == ""
        return Ran(done.returncode, done.stdout, place)

    def log(self, shim: str) -> list[str]:
        """The calls of a shim."""
        path = self.state / shim
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine", {**SHIMS, "dpkg-query": ":"})


def file(machine: Machine, content: str = "a = 1\n", mode: str = "0640") -> File:
    return File(str(machine.root / "etc" / "it.conf"), content, ME, MY_GROUP, mode)


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
    Chain: (
        lambda m: Chain("two", tuple(Command(n, f"mkdir {m.root}/{n}", f"[ -d {m.root}/{n} ]") for n in "ab")),
        "changed",
    ),
}


def test_every_kind_of_operation_is_tried_below() -> None:
    kinds = {
        value
        for value in vars(operations).values()
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
    make, _ = CASES[Chain]
    (machine.root / "a").mkdir()

    assert machine.run(make(machine)).states == ["changed"]
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
    wanted = (file(machine, "password = @@GLANCE_PASS@@\n"), Command("use", "[ @@GLANCE_PASS@@ = s3cretvalue ]"))

    ran = machine.run(*wanted, secrets={"GLANCE_PASS": Secret("s3cretvalue")})

    assert ran.states == ["changed", "changed"]
    assert path.read_text() == "password = s3cretvalue\n"
    assert "s3cretvalue" not in ran.text
    with pytest.raises(KeyError):
        machine.run(*wanted, secrets={})


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
    assert "unit keystone does not run" in ran.said(0)
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
    unit = Unit("keystone", ("connection = @@DBPASS@@",))

    def run(value: str) -> list[str]:
        return machine.run(unit, secrets={"DBPASS": Secret(value)}).states

    assert [run("one"), run("one"), run("two")] == [["changed"], ["ok"], ["changed"]]
    kept = (machine.root / "stamps" / "keystone").read_text()
    assert "two" not in kept


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
    for stage in plan(specify(topology, base=base)).stages:
        for when, part in (("first", stage.nodes), ("after", stage.after)):
            for node, items in part.items():
                path = tmp_path / f"{stage.name}-{when}-{node}.sh"
                path.write_text(MARK.sub("dummyvalue", script.program(stage.name, items)))
                paths.append(path)
    assert paths
    shellcheck(paths)
