"""One real lab, from nothing to nothing: up, proven by the end-to-end suite, again, beside another, restored, down."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import elsewhere
import outside
import pytest
import requests
import subject
from real import run_labctl
from support import ROOT, SMALL
from trees import fetched

from labctl.diagnose.breakages import BY_NAME
from labctl.host import paths, process
from labctl.images import ready
from labctl.lab.down import remains
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.services.schema import schemas

TABLES = Path(__file__).with_name("compare_tables.sh")
NAME = "ci-zed"
SECOND = "ci-second"
#: everything that labctl printed
SAID: list[str] = []

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real lab needs root"),
]


def labctl(*words: str, timeout: float = 600) -> str:
    """What labctl prints, which must succeed."""
    done = run_labctl(*words, timeout=timeout)
    SAID.append(done.stdout + done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    labctl("down", NAME)
    labctl("up", "zed-2node", "--name", NAME, timeout=1500)
    yield NAME
    labctl("down", NAME)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of the suite write their reports and what they keep of failures."""
    return tmp_path_factory.mktemp("kept")


def test_the_end_to_end_suite_passes(lab: str, kept: Path, tell: Callable[[str], None]) -> None:
    report = kept / "junit.xml"
    words = ["test", lab, "-n", "4", "--junit", str(report), "--", "--lab-artifacts", str(kept / "artifacts")]
    said = labctl(*words, timeout=1500)
    tell("\n".join(said.splitlines()[-25:]))
    assert " passed" in said
    assert 'failures="0"' in report.read_text()


def test_a_second_up_changes_nothing(lab: str) -> None:
    assert "  0 changed" in labctl("up", "zed-2node", "--name", lab).splitlines()[-8:][0] or "0 changed" in labctl(
        "up", "zed-2node", "--name", lab
    )


def test_tables_of_the_image_are_those_that_the_projects_make(lab: str) -> None:
    context = Lab.load(lab).context
    wanted = schemas(context.release, context.base.source)
    script = base64.b64encode(ready.SCRIPT.read_bytes()).decode()
    words = ("sh", script, *ready.arguments(wanted, "/tmp/made"))
    said = labctl("ssh", lab, "controller", "--", "sh", "-c", TABLES.read_text(), *words, timeout=300)
    assert said.split("\n")[:-1] == sorted(f"{name}.sql" for schema in wanted for name in schema.databases)


def listed(lab: str, kind: str) -> list[dict[str, str]]:
    """What the client inside the lab lists of a kind of resource."""
    rows: list[dict[str, str]] = json.loads(labctl("exec", lab, "--", "openstack", kind, "list", "-f", "json"))
    return rows


def test_a_client_inside_the_lab_sees_its_hypervisor(lab: str) -> None:
    assert [row["Hypervisor Hostname"] for row in listed(lab, "hypervisor")] == ["compute"]
    assert "Id" in labctl("ssh", lab, "compute", "--", "virsh", "list")


def test_a_command_reaches_its_node_word_for_word(lab: str) -> None:
    words = ["a b", "", "$HOME", "'", '"', "*", "-x", "\\", "한글"]
    assert labctl("ssh", lab, "controller", "--", "printf", "%s\\n", *words).splitlines() == words
    assert "1" in labctl("ssh", lab, "controller", "--", "mysql", "-u", "root", "-e", "select 1").split()


def invocations(lab: str) -> dict[str, str]:
    """Every running service of a lab's nodes, and the id of its start."""
    found: dict[str, str] = {}
    for node in Lab.load(lab).spec.nodes:
        said = labctl(
            "ssh", lab, node, "--", "systemctl", "show", "*.service", "--state=running", "-p", "Id,InvocationID"
        )
        for block in said.strip().split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines())
            found[f"{node} {values['Id']}"] = values["InvocationID"]
    return found


def test_a_change_of_one_s_own_answers_and_goes(lab: str, tmp_path: Path) -> None:
    """What docs/develop-openstack.md shows: a tree, an edit, the answer, and back; nobody else is started again."""
    tree = fetched("openstack-placement", tmp_path, "8.0.0")
    place = tree / "placement" / "handlers" / "root.py"

    def answer() -> str:
        return labctl("ssh", lab, "controller", "--", "curl", "-s", "http://controller:8778/")

    before, own = answer(), invocations(lab)
    assert "labctl" not in before
    labctl("source", lab, f"placement={tree}")
    assert answer() == before, "the tree as it is answers as the release does"
    assert place.read_text().count("'CURRENT'") == 1
    place.write_text(place.read_text().replace("'CURRENT'", "'CURRENT, by labctl'"))
    labctl("source", lab, f"placement={tree}")
    assert answer() == before.replace("CURRENT", "CURRENT, by labctl")
    again = {unit for unit, start in invocations(lab).items() if own.get(unit) != start}
    assert again == {"controller placement-api.service"}
    rows = json.loads(labctl("source", lab, "-o", "json"))
    assert [row["origin"] for row in rows if row["project"] == "placement"] == [str(tree)]
    labctl("source", lab, "placement=release")
    assert answer() == before


#: Exercises that hide nothing of each other: each has causes of its own.
SETTINGS = (
    "glance-database",
    "nova-transport",
    "placement-password",
    "vnc-listen",
    "metadata-secret",
    "physical-network",
    "cinder-backend",
    "swift-hash",
    "bad-option",
)
ABOVE = ("scheduler-masked", "l3-agent-stopped", "volume-stopped", "proxy-stopped", "heat-stopped", "endpoint-port")


def causes(lab: str) -> dict[str, list[dict[str, str]]]:
    """What a diagnosis finds."""
    done = run_labctl("diagnose", lab, "-o", "json", timeout=300, check=False)
    SAID.append(done.stdout + done.stderr)
    found: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    assert done.returncode == (1 if found["causes"] else 0)
    return found


def test_the_lab_is_the_cloud_of_another_one(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver openstack, from a server to its image and to nothing; `make contract` holds it to all."""
    monkeypatch.setattr(subject, "CLOUD", lab)
    one_node = SMALL.partition("  second:")[0]
    with subject.subject_of("openstack", one_node, tmp_path, monkeypatch) as made:
        made.begin()
        made.ask("echo kept >file")
        assert made.ask("hostname") == "first\n"
        assert {row["Name"].partition(".")[2] for row in listed(lab, "server")} == {"gateway", "first"}
        made.stand_on()
        assert made.ask("cat file") == "kept\n"
    left = [row["Name"] for kind in ("server", "network", "router", "volume") for row in listed(lab, kind)]
    assert not any(name.startswith("contract") for name in left)


def test_nothing_is_wrong_with_a_lab_that_was_just_tested(lab: str) -> None:
    assert causes(lab) == {"lab": lab, "done": [], "causes": [], "consequences": [], "hints": []}


@pytest.mark.parametrize("exercises", [SETTINGS, ABOVE], ids=["settings", "above"])
def test_breakages_are_explained_and_mended(lab: str, exercises: tuple[str, ...]) -> None:
    labctl("break", lab, *exercises)
    found = causes(lab)
    seen = [(cause["row"], cause["where"]) for cause in found["causes"]]
    spec = Lab.load(lab).spec
    for name in exercises:
        exercise = BY_NAME[name]
        places = (exercise.node(spec), "api")
        assert any(row in exercise.rows and where in places for row, where in seen), (name, found)
    labctl("fault", "heal", lab)  # fails when something is still wrong


def test_a_root_cause_stands_alone(lab: str) -> None:
    labctl("break", lab, "database-down")
    found = causes(lab)
    assert [cause["row"] for cause in found["causes"]] == ["A4"]
    assert len(found["consequences"]) > 3
    labctl("fault", "heal", lab)


#: A test that fails in a way that shows a secret, in the places where pytest writes.
TELLTALE = """
import logging

def test_tells(lab, admin, project):
    print(lab.admin_password, sorted(lab.secrets))
    logging.warning("%s %s", lab, admin.session.get_token())
    assert (lab.admin_password, project.password) == lab.secrets
"""


def test_no_secret_is_in_anything_that_the_runs_left(lab: str, kept: Path) -> None:
    state = Lab.load(lab)
    earlier = set(bundles_of(state))
    (kept / "e2e").mkdir()
    (kept / "e2e" / "test_tells.py").write_text(TELLTALE)
    words = ["--junit", str(kept / "told.xml"), "--", "--lab-artifacts", str(kept / "told"), f"--rootdir={kept}", "-rA"]
    words = ["test", lab, "-n", "0", *words, str(kept / "e2e" / "test_tells.py")]
    told = process.run([sys.executable, "-m", "labctl", *words], timeout=300, check=False)
    assert told.returncode == 1
    assert "1 failed" in told.stdout
    SAID.append(told.stdout + told.stderr)
    for verb in ("logs", "status", "info", "plan"):
        labctl(verb, lab if verb != "plan" else "zed-2node")
    labctl("bundle", lab, "-o", str(kept / "asked.tar.zst"))

    secrets = secrets_of(state)
    assert len(secrets) > 40
    texts = {"(printed)": "\n".join(SAID)}
    assert len(set(bundles_of(state)) - earlier) == 1, "the failed run made no bundle"
    bundles = [kept / "asked.tar.zst", *bundles_of(state)]
    for path in bundles:
        texts[str(path)] = process.run(["tar", "--zstd", "-xOf", path]).stdout
        assert "nova-compute" in texts[str(path)]
    outside = [p for p in kept.rglob("*") if p.is_file() and p.suffix != ".zst"]
    texts |= {str(p): p.read_text(errors="replace") for p in outside}
    private = {state.directory / "lab.json", *(state.directory / "keys").iterdir()}
    private |= {*(state.directory / "access").iterdir(), *state.directory.glob("layers/*/secrets.json")}
    for path in own_files(state):
        if path in private or path in bundles:
            if path.suffix != ".pub" and path.name not in ("known_hosts", "access.json"):
                assert path.stat().st_mode & 0o777 == 0o600, path
        else:
            texts[str(path)] = path.read_text(errors="replace")
    assert {"events.jsonl", "console.log", "journal.json"} <= {Path(name).name for name in texts}
    assert any(name.endswith("failure.txt") for name in texts)
    leaks = [f"{name}: {what}" for name, text in texts.items() for what, value in secrets.items() if value in text]
    assert leaks == []


def bundles_of(state: Lab) -> list[Path]:
    """The bundles that failed runs of the suite have made."""
    return list((state.directory / "bundles").glob("*.tar.zst"))


def secrets_of(state: Lab) -> dict[str, str]:
    """Every secret of a lab by what it is: its own, the lines of its private keys, and what services made."""
    found = {name: secret.reveal() for name, secret in state.secrets().items()}
    # pytest cuts long values in their middle
    found |= {f"begin of {name}": value[:10] for name, value in found.items()} | {
        f"end of {name}": value[-10:] for name, value in found.items()
    }
    keys = [p for p in (state.directory / "keys").iterdir() if p.suffix != ".pub" and p.name != "known_hosts"]
    for node in state.spec.nodes:
        root = state.node_directory(node) / "root"
        keys += [*(root / "etc/keystone/fernet-keys").glob("*"), *(root / "etc/keystone/credential-keys").glob("*")]
        keys += [*(root / "var/lib/rabbitmq").glob(".erlang.cookie")]
    for path in keys:
        for number, line in enumerate(path.read_text().split()):
            if len(line) >= 16 and not line.startswith("-----"):
                found[f"{path}:{number}"] = line
    return found


def own_files(state: Lab) -> Iterator[Path]:
    """The files of a lab's directory, but for the nodes' disks."""
    for top, folders, names in os.walk(state.directory):
        folders[:] = [f for f in folders if f not in ("root", "upper", "work", "disks", "shared")]
        yield from (Path(top) / name for name in names)


def test_another_lab_with_the_same_addresses_runs_beside_it(lab: str) -> None:
    try:
        labctl("up", "zed-2node", "--name", SECOND, "--until", "keystone")
        for name in (lab, SECOND):
            said = labctl("exec", name, "--", "curl", "-s", "-m", "20", "http://controller:5000/v3")
            assert json.loads(said)["version"]["id"].startswith("v3")
    finally:
        labctl("down", SECOND)
    assert remains(SECOND) == []


def test_a_restored_snapshot_is_the_lab_as_it_was_and_boots_guests(lab: str, tmp_path: Path) -> None:
    """The guest is that of docs/test-your-software.md: another project's own test, through the plugin."""
    labctl("snapshot", "create", lab, "ready")
    before = {row["Name"] for row in listed(lab, "network")}
    labctl("exec", lab, "--", "openstack", "network", "create", "later")
    assert {row["Name"] for row in listed(lab, "network")} == {*before, "later"}
    labctl("snapshot", "restore", lab, "ready")
    assert {row["Name"] for row in listed(lab, "network")} == before
    page = (ROOT / "docs" / "test-your-software.md").read_text()
    ((name, text),) = re.findall(r"^```python (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(text)
    words = [sys.executable, "-m", "pytest", "--lab", lab, "-p", "no:cacheprovider", "--rootdir", tmp_path, name]
    done = process.run(words, cwd=tmp_path, timeout=600, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen(lab: str) -> Iterator[str]:
    """The id of a guest, ``seen``, that has come to its login prompt."""
    words = ["server", "create", "--image", "cirros", "--flavor", "m1.nano", "--nic", "none", "--wait", "seen"]
    found = json.loads(labctl("exec", lab, "--", "openstack", *words, "-f", "json"))["id"]
    deadline = time.monotonic() + 300
    while "login:" not in labctl("exec", lab, "--", "openstack", "console", "log", "show", "seen"):
        assert time.monotonic() < deadline
        time.sleep(5)
    yield found
    if exists(lab):  # the last test takes it down
        labctl("exec", lab, "--", "openstack", "server", "delete", "--wait", "seen")


def password(lab: str) -> str:
    return Lab.load(lab).secrets()["ADMIN_PASS"].reveal()


def test_the_lab_is_used_from_outside_its_namespace(lab: str, seen: str, tmp_path: Path, kept: Path) -> None:
    assert outside.is_outside(Lab.load(lab).namespace)
    with outside.forwarded(lab) as links:
        assert set(links) >= {"socks", "dashboard", "novnc", "keystone", "nova", "swift"}
        with outside.forwarded(lab) as others:
            assert not set(others.values()) & set(links.values()), "ports that are taken are not taken again"
        answers = outside.catalog(links["socks"], password(lab))
        assert len(answers) > 6
        assert {url: status for url, status in answers.items() if status >= 500} == {}
        for name in ("keystone", "glance", "nova", "neutron", "placement", "cinder", "heat"):
            assert requests.get(links[name], timeout=60).status_code < 500, name
        outside.dashboard(tmp_path, links["dashboard"], password(lab), "seen", kept / "forward-dashboard.png")
        address = labctl("console", lab, "seen", "--port", str(urlsplit(links["novnc"]).port)).strip()
        assert address.startswith("http://127.0.0.1:")
        outside.console(tmp_path, address, kept / "forward-console.png")
        horizon = f"http://controller{urlsplit(links['dashboard']).path}"
        outside.console_in_dashboard(tmp_path, links["socks"], horizon, password(lab), seen)


def test_the_lab_is_used_from_another_machine(lab: str, seen: str, tmp_path: Path, kept: Path) -> None:
    place = tmp_path / "machine"
    place.mkdir()
    with elsewhere.machine(place, paths.home()) as there:
        status, out, err = there("exec", lab, "--", "openstack", "server", "list", "-f", "json")
        assert status == 0, err
        assert [row["Name"] for row in json.loads(out)] == ["seen"]
        status, _, err = there("test", lab, "-n", "0", "--junit", str(tmp_path / "junit.xml"), "--", "-k", "catalog")
        assert status == 0, err
        assert 'failures="0"' in (tmp_path / "junit.xml").read_text()
        with outside.forwarded(lab, there.begin) as links:
            answers = outside.catalog(links["socks"], password(lab))
            assert {url: status for url, status in answers.items() if status >= 500} == {}
            outside.dashboard(tmp_path, links["dashboard"], password(lab), "seen", kept / "host-dashboard.png")
            _, address, _ = there("console", lab, "seen", "--port", str(urlsplit(links["novnc"]).port))
            outside.console(tmp_path, address.strip(), kept / "host-console.png")
        assert there.left() == []


def test_plain_ssh_and_ansible_s_inventory_reach_the_nodes(lab: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(labctl("ssh-config", lab))
    for node in ("controller", "compute"):
        assert process.output(["ssh", "-F", config, node, "hostname"], timeout=60) == node
    found = json.loads(labctl("inventory", lab))
    assert found["nova_compute"] == {"hosts": ["compute"]}
    assert found["keystone"] == {"hosts": ["controller"]}
    told = found["_meta"]["hostvars"]["compute"]
    assert told == json.loads(labctl("inventory", lab, "--host", "compute"))
    words = ["ssh", "-F", "none", *shlex.split(told["ansible_ssh_common_args"]), told["ansible_host"], "hostname"]
    assert process.output(words, timeout=60) == "compute"


def test_down_leaves_nothing_and_can_be_repeated() -> None:
    labctl("down", NAME)
    assert remains(NAME) == []
    assert "nothing to remove" in labctl("down", NAME)
