"""Faults: what is brought upon a lab is written down, shown, and undone one by one or all at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commandline import Labctl
from support import specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host import process
from labctl.host.links import Shape
from labctl.lab import fault
from labctl.lab.fault import Fault, Kind
from labctl.records.lab import Lab

NODE, OTHER = "first", "second"

#: Stands in for a node's systemctl: units are files named by their state, and every call is kept.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>{here}/calls
for unit; do :; done
case $1 in
    show) if [ -e {here}/units/"$unit" ]; then echo LoadState=loaded; else echo LoadState=not-found; fi ;;
    stop | kill) echo inactive >{here}/units/"$unit" ;;
    start)
        if [ -e {here}/broken ]; then echo "Job for $unit failed." >&2; exit 1; fi
        echo active >{here}/units/"$unit" ;;
esac
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    return driver


@pytest.fixture
def lab(fake: Fake, tmp_path: Path) -> Lab:
    """A lab of two running machines in memory."""
    path = write(tmp_path)
    state = Lab.create(specify(path), path)
    for node in state.spec.nodes:
        fake.create(state, node)
        fake.start(state, node)
    return state


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a systemctl of the test's own: calls, units/ and, when asked for, broken."""
    here = tmp_path / "systemd"
    (here / "units").mkdir(parents=True)
    (here / "bin").mkdir()
    for unit in ("mariadb", "rabbitmq-server", "neutron-api", "neutron-rpc-server"):
        (here / "units" / unit).write_text("active\n")
    program = here / "bin" / "systemctl"
    program.write_text(SYSTEMCTL.format(here=here))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.environ['PATH']}")
    return here


def is_active(systemd: Path, unit: str) -> bool:
    return (systemd / "units" / unit).read_text() == "active\n"


# --- one by one ------------------------------------------------------------------------------------


def test_a_killed_node_is_gone_until_it_is_started(lab: Lab, fake: Fake, systemd: Path) -> None:
    fault.kill_node(lab, NODE)
    assert not fake.machine(lab, NODE).running
    assert [str(f) for f in fault.active(lab)] == ["first killed"]
    with pytest.raises(BrokenLabError, match="first of small is not running"):
        fault.kill_node(lab, NODE)

    fault.start_node(lab, NODE)
    assert fake.machine(lab, NODE).running
    assert fault.active(lab) == ()


def test_a_paused_node_answers_nothing_until_it_is_resumed(lab: Lab, fake: Fake) -> None:
    fault.pause_node(lab, NODE)
    assert fake.machine(lab, NODE).paused
    with pytest.raises(BrokenLabError, match="first is unreachable: first paused"):
        fault.stop_service(lab, NODE, "mariadb")

    fault.resume_node(lab, NODE)
    assert not fake.machine(lab, NODE).paused
    assert fault.active(lab) == ()


def test_killing_a_paused_node_leaves_one_fault(lab: Lab) -> None:
    fault.pause_node(lab, NODE)
    fault.kill_node(lab, NODE)
    assert fault.active(lab) == (Fault(Kind.NODE_KILLED, NODE),)


def test_a_node_that_starts_keeps_its_faulty_links(lab: Lab, fake: Fake, systemd: Path) -> None:
    cut = fault.cut_link(lab, NODE, "management")
    fault.kill_node(lab, NODE)
    fake.boxes[(lab.id, NODE)].unplugged.clear()  # a new machine's cable is in
    fault.start_node(lab, NODE)
    assert fake.boxes[(lab.id, NODE)].unplugged == {"management"}
    assert fault.active(lab) == (cut,)


def test_a_link_is_cut_shaped_and_healed(lab: Lab, fake: Fake) -> None:
    box = fake.boxes[(lab.id, NODE)]
    fault.cut_link(lab, NODE, "management")
    fault.shape_link(lab, NODE, "management", Shape(loss=5))
    fault.shape_link(lab, NODE, "management", Shape(loss=7))
    assert box.unplugged == {"management"}
    assert box.shapes["management"] == Shape(loss=7)
    assert [str(f) for f in fault.active(lab)] == [
        "link of first to management cut",
        "link of first to management shaped: loss 7 %",
    ]

    fault.heal_link(lab, NODE, "management")
    assert box.unplugged == set()
    assert box.shapes["management"] == Shape()
    assert fault.active(lab) == ()


def test_a_shape_that_the_host_cannot_make_is_no_fault(lab: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise LabError("this host's kernel has no netem")

    monkeypatch.setattr(fake, "shape", cannot)
    with pytest.raises(LabError, match="no netem"):
        fault.shape_link(lab, NODE, "management", Shape(delay=100))
    assert fault.active(lab) == ()


def test_a_service_is_known_by_its_project_s_name_and_by_its_unit(lab: Lab, systemd: Path) -> None:
    fault.stop_service(lab, NODE, "rabbitmq")
    assert not is_active(systemd, "rabbitmq-server")
    fault.kill_service(lab, NODE, "neutron-server")
    assert "kill --signal=KILL neutron-rpc-server" in (systemd / "calls").read_text()
    assert [str(f) for f in fault.active(lab)] == [
        "rabbitmq-server on first stopped",
        "neutron-api on first killed",
        "neutron-rpc-server on first killed",
    ]
    for name in ("rabbitmq-server", "neutron-server"):
        fault.start_service(lab, NODE, name)
    assert is_active(systemd, "rabbitmq-server")
    assert is_active(systemd, "neutron-rpc-server")
    assert fault.active(lab) == ()


def test_an_unknown_service_is_refused_and_named_with_the_known_ones(lab: Lab, systemd: Path) -> None:
    with pytest.raises(
        LabError, match=r"first has no unit 'mariadbd'; use a unit's name, or one of .*mariadb, rabbitmq"
    ):
        fault.stop_service(lab, NODE, "mariadbd")
    assert fault.active(lab) == ()


def test_a_killed_labctl_leaves_no_fault_that_is_not_written_down(
    lab: Lab, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "plug", killed)
    with pytest.raises(KeyboardInterrupt):
        fault.cut_link(lab, NODE, "management")
    assert fault.active(Lab.load("small")) == (Fault(Kind.LINK_CUT, NODE, "management"),)


# --- all at once -----------------------------------------------------------------------------------


def everything(lab: Lab) -> None:
    """A fault of each kind; the services' first, while they can be reached."""
    fault.stop_service(lab, NODE, "mariadb")
    fault.kill_service(lab, OTHER, "rabbitmq")
    fault.shape_link(lab, NODE, "management", Shape(loss=5))
    fault.cut_link(lab, NODE, "management")
    fault.pause_node(lab, NODE)
    fault.kill_node(lab, OTHER)


def test_heal_undoes_every_fault_in_an_order_that_works(lab: Lab, fake: Fake, systemd: Path) -> None:
    everything(lab)
    assert len(fault.heal_all(lab)) == 6
    assert fault.active(lab) == ()
    for node in (NODE, OTHER):
        machine = fake.machine(lab, node)
        assert (machine.running, machine.paused) == (True, False)
    assert fake.boxes[(lab.id, NODE)].unplugged == set()
    assert is_active(systemd, "mariadb")
    assert is_active(systemd, "rabbitmq-server")
    assert fault.heal_all(lab) == ()


def test_what_cannot_be_healed_is_named_and_kept_and_the_rest_is_healed(lab: Lab, fake: Fake, systemd: Path) -> None:
    everything(lab)
    (systemd / "broken").touch()
    with pytest.raises(LabError) as failed:
        fault.heal_all(lab)
    assert "mariadb on first stopped: first: mariadb does not start: Job for mariadb failed." in failed.value.message
    assert {f.target for f in fault.active(lab)} == {"mariadb", "rabbitmq-server"}
    assert not fake.machine(lab, NODE).paused

    (systemd / "broken").unlink()
    fault.heal_all(lab)
    assert fault.active(lab) == ()


def test_a_restore_lifts_what_lies_outside_the_machines_and_asks_nothing_inside(
    lab: Lab, fake: Fake, systemd: Path
) -> None:
    everything(lab)
    (systemd / "calls").unlink()
    fault.lift(lab)
    assert fault.active(lab) == ()
    assert not fake.machine(lab, NODE).paused
    assert fake.boxes[(lab.id, NODE)].unplugged == set()
    assert not fake.machine(lab, OTHER).running
    assert not (systemd / "calls").exists()


# --- the command -----------------------------------------------------------------------------------


def test_faults_are_listed_and_shown_by_status_and_healed(labctl: Labctl, lab: Lab, systemd: Path) -> None:
    assert labctl("fault", "small", "node", "pause", NODE)[0] == 0
    assert labctl("fault", "small", "link", "shape", OTHER, "management", "--loss", "5%", "--rate", "2mbit")[0] == 0
    rows = json.loads(labctl("fault", "list", "small", "-o", "json")[1])
    assert [(r["fault"], r["node"], r["target"], r["detail"]) for r in rows] == [
        ("node paused", "first", "", ""),
        ("link shaped", "second", "management", "loss 5 %, rate 2000 kbit/s"),
    ]
    seen = json.loads(labctl("status", "small", "-o", "json")[1])
    assert [n["state"] for n in seen["nodes"]] == ["paused", "running"]
    assert [f["fault"] for f in seen["faults"]] == ["node paused", "link shaped"]
    assert "fault: first paused; labctl fault heal small" in labctl("status", "small")[1]

    status, out, _ = labctl("fault", "heal", "small")
    assert (status, out.splitlines()) == (
        0,
        ["healed: first paused", "healed: link of second to management shaped: loss 5 %, rate 2000 kbit/s"],
    )
    assert labctl("fault", "heal", "small")[1] == "small: no faults\n"


def test_up_undoes_the_faults(labctl: Labctl, fake: Fake, tmp_path: Path, systemd: Path) -> None:
    path = str(write(tmp_path))
    assert labctl("up", path)[0] == 0
    state = Lab.load("small")
    fault.kill_node(state, OTHER)
    fault.cut_link(state, NODE, "management")
    status, _, err = labctl("up", path)
    assert status == 0, err
    assert fault.active(state) == ()
    assert all(fake.machine(state, node).running for node in (NODE, OTHER))
    assert fake.boxes[(state.id, NODE)].unplugged == set()


@pytest.mark.parametrize(
    "words",
    [
        ("fault", "small"),
        ("fault", "small", "node"),
        ("fault", "small", "node", "crash", NODE),
        ("fault", "small", "node", "kill"),
        ("fault", "small", "link", "cut", NODE),
        ("fault", "small", "link", "cut", NODE, "management", "provider"),
    ],
)
def test_what_is_not_understood_is_answered_with_the_grammar(words: tuple[str, ...], labctl: Labctl, lab: Lab) -> None:
    status, _, err = labctl(*words)
    assert status == 1
    assert "labctl fault LAB node kill|start|pause|resume NODE" in err
    assert fault.active(lab) == ()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--delay", "100"), "--delay 100 is not valid; use 100ms or 0.2s"),
        (("--loss", "5"), "--loss 5 is not valid; use 5%"),
        (("--loss", "101%"), "--loss 101% is out of range"),
        (("--rate", "0mbit"), "--rate 0mbit is out of range"),
        ((), "link shape needs --delay, --loss or --rate"),
    ],
)
def test_a_shape_without_sense_is_refused(option: tuple[str, ...], said: str, labctl: Labctl, lab: Lab) -> None:
    status, _, err = labctl("fault", "small", "link", "shape", NODE, "management", *option)
    assert status == 1
    assert said in err


def test_units_of_shapes(labctl: Labctl, lab: Lab, fake: Fake) -> None:
    words = ("fault", "small", "link", "shape", NODE, "management")
    assert labctl(*words, "--delay", "0.2s", "--loss", "0.5%", "--rate", "512kbit")[0] == 0
    assert fake.boxes[(lab.id, NODE)].shapes["management"] == Shape(delay=200, loss=0.5, rate=512)


# --- real machines ---------------------------------------------------------------------------------


def ask(lab: Lab, node: str, command: str, seconds: float = 60) -> str:
    with drivers.get("nspawn").connect(lab, node, seconds) as session:
        return session.run(command, timeout=60).stdout.strip()


@pytest.mark.system
def test_containers_bear_every_fault_and_are_healed(containers: Lab) -> None:
    address = str(containers.spec.address(containers.spec.nodes[OTHER]))
    ping = f"ping -c 3 -i 0.2 -W 1 -q {address} | grep -o '[0-9]* received'"
    for node in (NODE, OTHER):
        ask(containers, node, "true")
    assert ask(containers, NODE, ping) == "3 received"
    ask(containers, NODE, "systemctl start memcached; echo kept >/root/kept")
    started = ask(containers, OTHER, "cat /proc/1/stat | cut -d ' ' -f 22")

    fault.kill_service(containers, NODE, "memcached")
    fault.pause_node(containers, OTHER)
    assert ask(containers, NODE, ping) == "3 received", "the kernel of a paused container still answers"
    with pytest.raises(DeadlineError):
        ask(containers, OTHER, "true", 3)
    fault.cut_link(containers, OTHER, "management")
    assert ask(containers, NODE, ping) == "0 received"
    fault.shape_link(containers, NODE, "management", Shape(loss=1))
    fault.kill_node(containers, NODE)
    assert not process.run(["pgrep", "-f", f"--machine={containers.name}-{NODE} "], check=False).stdout

    assert len(fault.heal_all(containers)) == 5
    assert fault.active(containers) == ()
    assert ask(containers, NODE, "cat /root/kept; systemctl is-active memcached") == "kept\nactive"
    assert ask(containers, OTHER, "cat /proc/1/stat | cut -d ' ' -f 22") == started, "the paused machine was restarted"
    assert ask(containers, NODE, ping) == "3 received"
