"""Text that becomes code: what a topology may say comes out of every language that labctl writes as itself."""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from string import Template
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import yaml
from commandline import Labctl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import ROOT, planned, specify, whole

from labctl.commands.plan import print_plan
from labctl.lab.choose import draft
from labctl.operations.node import Command, Database, File, Operation, flatten, quote
from labctl.operations.runner import archive
from labctl.operations.script import program
from labctl.plan import planner
from labctl.plan.guide import guide, placeholder
from labctl.plan.planner import Plan
from labctl.records import access
from labctl.records.lab import Lab
from labctl.secret import MARK, Secret, mark, reveal
from labctl.services.base import Context
from labctl.testing import junit
from labctl.text import quoting
from labctl.topology.load import TopologyError, load, parse
from labctl.topology.rules_secrets import obstacle

ZED, MITAKA = (ROOT / "topologies" / f"{name}.yaml" for name in ("zed-2node", "mitaka-3node"))
#: What some language gives a meaning to, beside letters of several scripts.
SPECIAL = "'\"`$%@/:#;\\&|<>(){}[]*?~!=+-., aZ9é비ßЖ"
SHORT = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
PRINTED = st.one_of(st.text(SPECIAL, min_size=1, max_size=20), st.text(min_size=1, max_size=15))


def secret(name: str) -> st.SearchStrategy[str]:
    """A value that a topology may choose for a secret."""
    letters = re.sub(r"[^A-Za-z0-9.~-]", "", SPECIAL) if name in ("KEYSTONE_DBPASS", "NOVA_DBPASS") else SPECIAL
    text = st.text(letters, min_size=1, max_size=20) if name.endswith("_DBPASS") else PRINTED
    return text.map(lambda value: value.strip()).filter(lambda value: obstacle(name, value) is None)


def sh(program: str, **variables: str) -> str:
    """What a program of sh prints."""
    done = subprocess.run(
        ["sh", "-eu", "-c", program], env={"PATH": os.environ["PATH"], **variables}, capture_output=True, check=True
    )
    return done.stdout.decode()


def oslo(text: str) -> str:
    """A value as oslo.config reads it: ``ConfigParser._split_key_value`` and ``ConfigOpts._substitute``."""
    value = text.strip()
    if value and value[0] in "\"'" and value.endswith(value[0]):
        value = value[1:-1]
    return Template(value.replace(r"\$", "$$")).safe_substitute()


def sql(statements: str) -> list[str]:
    """The strings after IDENTIFIED BY, as MariaDB reads them."""
    found = re.findall(r"IDENTIFIED BY '((?:[^'\\]|''|\\.)*)'", statements)
    return [re.sub(r"''|\\(.)", lambda part: part[1] or "'", text) for text in found]


@pytest.fixture(scope="module", params=[ZED, MITAKA], ids=lambda path: path.stem)
def plan(request: pytest.FixtureRequest) -> Plan:
    path: Path = request.param
    return planned(whole(path, load(path).bases[0]))


@pytest.fixture(scope="module")
def found(plan: Plan) -> tuple[list[str], dict[str, File]]:
    """The programs and files with secrets, before the runner fills them in; a file that several nodes have, once."""
    programs, files = {}, {}
    for stage in plan.stages:
        for items in (*stage.nodes.values(), *stage.after.values()):
            programs[program(stage.name, items)] = None
            files.update({o.content: o for o in flatten(items) if isinstance(o, File) and MARK.search(o.content)})
    return list(programs), files


def read_back(file: File, text: str) -> Iterator[tuple[str, str]]:
    """Each line of a file that has a secret: the secret's name, and what its program reads."""
    planned, written = file.content.split("\n"), text.split("\n")
    assert len(planned) == len(written)
    parser = configparser.ConfigParser() if "/swift/" in file.path else None
    if parser:
        parser.read_string(text)
    section = ""
    for line, said in zip(planned, written, strict=True):
        section = line.strip("[]") if line.startswith("[") else section
        if (found := MARK.search(line)) is None:
            assert line == said
            continue
        key, _, value = said.partition("=")
        if parser:
            yield found[1], parser.get(section, key.strip())
        elif "://" in line:
            password = re.search(r"://[^:/]+:([^@/?#]*)@[a-z]+[:/]", oslo(value))
            assert password
            yield found[1], unquote(password[1])
        elif file.path.endswith("openrc"):
            yield found[1], sh(f'{text}\nprintf %s "${key.removeprefix("export ")}"')
        else:
            yield found[1], oslo(value)


@SHORT
@given(data=st.data())
def test_a_secret_reaches_every_file_and_program_of_a_node_as_it_is(
    plan: Plan, found: tuple[list[str], dict[str, File]], data: st.DataObject
) -> None:
    chosen = {name: data.draw(secret(name), name) for name in sorted(plan.secrets())}
    secrets = {name: Secret(value) for name, value in chosen.items()}
    programs, files = found
    for file in files.values():
        for name, value in read_back(file, reveal(file.content, secrets)):
            assert value == chosen[name], f"{name} in {file.path}"
    subprocess.run(["sh", "-n"], input=reveal("\n".join(programs), secrets).encode(), check=True)


def test_the_runner_fills_the_secrets_in() -> None:
    secrets = {"A": Secret("it's $x")}
    file, use = File("/x", mark("A", "oslo")), Command("use", f"echo {quote(mark('A'))}")
    with tarfile.open(fileobj=io.BytesIO(archive("s", (file, use), secrets))) as tar:
        texts = {name: made.read().decode() for name in tar.getnames() if (made := tar.extractfile(name))}
    assert texts["files/x"] == "it's $$x"
    assert "echo 'it'\"'\"'s $x'\n" in texts["program.sh"]


KEYSTONE = "keystone tables, keys and admin"
#: Programs that write to the descriptor 3 what they were told.
PROGRAMS = r"""
touch() { :; }
mysql() { case "$*" in *root*) cat >&3 ;; *) printf 'test %s\n' "$MYSQL_PWD" >&3; return 1 ;; esac; }
rabbitmqctl() {
    [ "$1" = add_user ] || return 0
    [ $# -eq 3 ] && told=$3 || IFS= read -r told
    printf %s "$told" >&3
}
fill_tables() { return 1; }
forked() { printf %s "$OS_BOOTSTRAP_PASSWORD" >&3; }
"""


def told(operation: Operation, secrets: dict[str, Secret]) -> str:
    """What an operation tells the program that it runs."""
    body = reveal(operation.shell(), secrets)
    return sh(f"exec 3>&1\n{PROGRAMS}\nf() {{\n{body}\n}}\n(f) >/dev/null || [ $? -eq 10 ]")


@SHORT
@given(data=st.data())
def test_a_secret_reaches_the_database_the_message_queue_and_keystone(plan: Plan, data: st.DataObject) -> None:
    value = data.draw(secret("RABBIT_PASS").filter(lambda text: obstacle("GLANCE_DBPASS", text) is None))
    secrets = dict.fromkeys(plan.secrets(), Secret(value))
    seen = set()
    for stage in plan.stages:
        for operation in flatten(tuple(item for items in stage.nodes.values() for item in items)):
            if isinstance(operation, Database) and "Database" not in seen:
                said = told(operation, secrets)
                assert sql(said) == [value] * 2
                assert f"test {value}\n" in said
            elif operation.title in ("rabbitmq user openstack", KEYSTONE):
                assert told(operation, secrets) == value
            else:
                continue
            seen.add(operation.title if not isinstance(operation, Database) else "Database")
    assert seen == {"Database", "rabbitmq user openstack", KEYSTONE}


def titled(most: int = 255) -> st.SearchStrategy[str]:
    """A name that a topology may give to what OpenStack keeps."""

    def valid(text: str) -> bool:
        return bool(text) and text.isprintable() and text == text.strip() and text[0] != "-" and max(text) <= "\uffff"

    return PRINTED.filter(valid).filter(lambda text: len(text) <= most)


NAMED = st.fixed_dictionaries(
    {key: titled(64) for key in ("user", "project", "image", "router", "external_network", "internal_network")}
)
HOSTILE = {
    "user": "@@ADMIN_PASS@@",
    "project": "END OF FILE",
    "image": "[bold]$(id)`id`",
    "router": "it's \\x02DEMO_PASS\\x03",
    "external_network": "@node@ <b>",
    "internal_network": "%(x)s ${y} 비밀",
}


def lab_with(names: dict[str, str]) -> str:
    values = yaml.safe_load(ZED.read_text())
    values["fixtures"] = {**names, "flavors": {names["image"]: {"ram": "64 MiB"}}}
    values["description"] = names["image"]
    return yaml.safe_dump(values, allow_unicode=True)


@SHORT
@given(names=NAMED)
@example(names=HOSTILE)
def test_a_name_comes_out_of_files_calls_and_commands_as_it_is(names: dict[str, str]) -> None:
    try:
        spec = draft(parse(lab_with(names), "f")).spec
    except TopologyError as error:
        if all("choose another" in problem.message for problem in error.problems):
            return  # a name of OpenStack's own, or twice the same
        raise
    made = planner.plan(Context.of(spec))
    calls = [call for stage in made.stages for call in stage.api]
    user, project = names["user"], names["project"]
    assert any(getattr(call, "name", "") == user for call in calls)
    for call in calls:
        words = shlex.split(placeholder(call.guide()))
        wanted = {getattr(call, field, "") for field in ("name", "project", "router", "external")} & set(names.values())
        assert wanted <= {*words, *(word.partition("=")[2] for word in words)}, call
    (rc,) = {file.content for file in made.files("controller") if file.path == "/root/demo-openrc"}
    secrets = {name: Secret("x") for name in made.secrets()}
    shown = sh(f'{reveal(rc, secrets)}\nprintf %s "$OS_USERNAME/$OS_PROJECT_NAME"')
    assert shown == f"{user}/{project}"
    assert MARK.sub("", rc).count("\x02") == 0


def test_hostile_names_come_out_of_what_is_shown_and_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(lab_with(HOSTILE))
    spec = specify(path)
    print_plan(spec)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (HOSTILE["user"], HOSTILE["image"], HOSTILE["external_network"]))
    document = guide(spec)
    assert "\x02" not in document
    typed = [shlex.split(line.partition("# ")[2]) for line in document.splitlines() if "openstack user create" in line]
    assert ["--password", "DEMO_PASS", HOSTILE["user"]] in [words[-3:] for words in typed]
    assert "openstack network create --share --external" in document
    assert quoting.sh(HOSTILE["external_network"]) in document
    lab = Lab.create(spec, path)
    secrets = {name: Secret('it\'s $x "비" @@ADMIN_PASS@@ #') for name in ("ADMIN_PASS", "DEMO_PASS")}
    access.write(lab, "http://controller:5000", secrets)
    known = access.environment(lab, "demo")
    stored = yaml.safe_load((lab.directory / "access" / "clouds.yaml").read_text())["clouds"]["demo"]["auth"]
    read = sh(f'. {lab.directory}/access/demo-openrc; printf %s "$OS_USERNAME/$OS_PROJECT_NAME/$OS_PASSWORD"')
    password = secrets["DEMO_PASS"].reveal()
    assert (stored["username"], stored["project_name"], stored["password"]) == (
        HOSTILE["user"],
        HOSTILE["project"],
        password,
    )
    assert read == "/".join((HOSTILE["user"], HOSTILE["project"], password))
    assert known["OS_USERNAME"] == HOSTILE["user"]
    assert known["OS_PASSWORD"] == password


@SHORT
@given(text=PRINTED)
@example(text="END OF FILE")
@example(text="a\nEND OF FILE\nEND OF FILE OF ALL\nb")
@example(text="\\$ $x \\")
def test_each_language_gives_text_back(text: str) -> None:
    if "\0" in text:
        return
    text = text.encode("utf-8", "replace").decode()
    assert shlex.split(quoting.sh(text)) == [text]
    assert shlex.split(f"'{quoting.within_quotes(text)}'") == [text]
    assert unquote(quoting.url(text)) == text
    assert sql(f"IDENTIFIED BY '{quoting.sql(text)}'") == [text]
    assert sh(f"cat {quoting.document(text)}\n") == (text if text.endswith("\n") else f"{text}\n")
    if text.isprintable():
        assert oslo(quoting.oslo(text)) == text


@SHORT
@given(text=st.text(min_size=1, max_size=20), special=st.text("<>&\"']\x00\x1b\ufffe", max_size=5))
def test_pages_and_reports_give_text_back(tmp_path_factory: pytest.TempPathFactory, text: str, special: str) -> None:
    name = f"{text}{special}".encode("utf-8", "replace").decode()
    path = tmp_path_factory.mktemp("junit") / "junit.xml"
    junit.write(path, [(name, [junit.Case(name, "failed", 1.0, name)])])
    (case,) = ElementTree.parse(path).getroot().iter("testcase")
    shown = re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda odd: f"#x{ord(odd[0]):02X}", name)
    assert (case.get("name") or "").split() == shown.split()


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("user", "a\nb", "'\\n', which is not printed"),
        ("project", "\x07bell", "which is not printed"),
        ("image", "-rf", "must not begin with '-'"),
        ("router", " edge", "begin or end with a blank"),
        ("router", "", "must not be empty"),
        ("external_network", "네트워크 \U0001f600", "stores up to three bytes"),
        ("internal_network", "a\u2028b", "which is not printed"),
        ("project", "x" * 65, "at most 64 characters"),
        ("cirros", "../../etc", "a version of CirrOS like 0.5.1"),
        ("cirros", "0.5.1\n", "a version of CirrOS like 0.5.1"),
    ],
)
def test_a_name_that_cannot_be_carried_is_refused_at_its_place(field: str, text: str, why: str) -> None:
    with pytest.raises(TopologyError) as raised:
        parse(
            f"{ZED.read_text()}\nfixtures:\n  {field}: {json.dumps(text, ensure_ascii=ord(text[:1] or ' ') < 128)}\n",
            "lab.yaml",
        )
    problem = next(problem for problem in raised.value.problems if why in problem.message)
    lines = ZED.read_text().count("\n")
    assert (problem.line, problem.column) == (lines + 3, len(field) + 5)


def test_a_flavors_name_is_refused_at_its_key() -> None:
    with pytest.raises(TopologyError, match=r'lab.yaml:\d+:13: fixtures.flavors\["-x"\]: .*begin with') as raised:
        parse(f"{ZED.read_text()}\nfixtures: \n  flavors: {{'-x': {{ram: 64 MiB}}}}\n", "lab.yaml")
    assert len(raised.value.problems) == 1


@pytest.mark.parametrize("value", ["password", "OpenStack", "123456", "zed-2node", "ADMIN_PASS", "demo"])
def test_a_secret_that_anybody_would_guess_is_warned_of_without_showing_it(
    labctl: Labctl, tmp_path: Path, value: str
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(f"{ZED.read_text()}\npasswords:\n  ADMIN_PASS: {json.dumps(value)}\n")
    status, out, err = labctl("validate", str(path))
    assert status == 0
    line = ZED.read_text().count("\n") + 3
    said = " ".join(err.split())
    assert f"lab.yaml:{line}:15: passwords.ADMIN_PASS: is a common word" in said
    assert value == "ADMIN_PASS" or value not in (out + err).replace(str(path), "").partition("valid (")[0]
    assert labctl("validate", str(ZED))[2] == ""
