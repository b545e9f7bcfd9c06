"""The install document: everything that `up` does, in words that people can type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT, TOPOLOGIES, planned, specify, variants

from labctl.errors import LabError
from labctl.host import process
from labctl.operations.node import Chain, File, Record, flatten
from labctl.plan import guide
from labctl.plan.words import LANGUAGES, Words
from labctl.services.base import Context

#: The documented labs and the base of their documents.
DOCUMENTED = {"mitaka-3node": "centos7", "rocky-2node": "centos7", "train-2node": "centos7", "ussuri-6node": "centos8"}
every_variant = pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
PROMPT = re.compile(r"^(?:[a-z0-9&-]+# |> |MariaDB \[\(none\)\]> )")


def blocks(text: str, kind: str = "console") -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(text: str) -> str:
    """Everything that is typed, without prompts."""
    return "\n".join(PROMPT.sub("", line) for block in blocks(text) for line in block.splitlines())


@every_variant
def test_a_guide_has_every_operation_of_the_plan(topology: Path, base: str) -> None:
    spec = specify(topology, base=base)
    document = guide.guide(spec)
    said = typed(document)
    missing = []
    for stage in planned(spec).stages:
        for part in (stage.nodes, stage.after):
            for items in part.values():
                for operation in flatten(tuple(items)):
                    if isinstance(operation, Record):
                        continue
                    commands = operation.commands if isinstance(operation, Chain) else (operation,)
                    for one in commands:
                        text = guide.placeholder(one.guide())
                        where = document if isinstance(one, File) else said
                        wanted = guide.placeholder(one.content) if isinstance(one, File) else text
                        if not all(line in where for line in wanted.splitlines()):
                            missing.append(f"{stage.name}: {operation.title}")
        calls = [(c.title, c.guide()) for c in stage.copies]
        calls += [(c.title, guide.said(Context.of(spec), c)) for c in stage.api]
        missing += [t for t, text in calls if not all(line in said for line in guide.placeholder(text).splitlines())]
    assert not missing


@every_variant
def test_what_is_typed_is_shell(topology: Path, base: str) -> None:
    document = guide.guide(specify(topology, base=base))
    lines = "\n".join(line for line in document.splitlines() if not line.startswith("MariaDB"))
    process.run(["sh", "-n"], stdin=typed(lines))


@every_variant
def test_a_guide_shows_no_mark_and_no_value_of_a_secret(topology: Path, base: str) -> None:
    document = guide.guide(specify(topology, base=base))
    assert "\x02" not in document
    assert "KEYSTONE_DBPASS" in document


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lab", DOCUMENTED)
def test_the_committed_guides_are_current(lab: str, language: str, request: pytest.FixtureRequest) -> None:
    text = guide.guide(specify(ROOT / "topologies" / f"{lab}.yaml", base=DOCUMENTED[lab]), language)
    path = ROOT / "docs" / "guides" / f"{lab}{'' if language == 'en' else '.' + language}.md"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text, f"pytest {Path(__file__).relative_to(ROOT)} --update-golden"


def test_every_lab_of_the_notes_has_a_guide() -> None:
    rdo = {p.stem for p in TOPOLOGIES if (p.stem, "centos7") in DOCUMENTED.items() or p.stem in DOCUMENTED}
    assert rdo == set(DOCUMENTED)


def test_languages_say_the_same() -> None:
    assert {tuple(sorted(table)) for table in LANGUAGES.values()} == {tuple(sorted(LANGUAGES["en"]))}
    spec = specify(ROOT / "topologies" / "ussuri-6node.yaml", base="centos8")
    english, korean = guide.guide(spec), guide.guide(spec, "ko")
    assert blocks(english) == blocks(korean)
    assert "인증: keystone" in korean
    with pytest.raises(LabError, match="no guide in language 'fr'; available: en, ko"):
        Words.of("fr")


def test_chapters_come_in_the_order_that_never_deadlocks() -> None:
    document = guide.guide(specify(ROOT / "topologies" / "ussuri-6node.yaml", base="centos8"))
    order = ["prepare", "packages", "infrastructure", "keystone", "glance", "placement", "nova", "neutron", "cinder"]
    order += ["swift", "heat", "horizon", "gnocchi", "ceilometer", "aodh", "settle", "fixtures"]
    words = Words.of("en")
    wanted = [words.say(key) for key in order if key != "horizon"]
    found = re.findall(r"^## \d+\. (.*)$", document, re.MULTILINE)
    assert [heading for heading in found if heading in wanted] == wanted
    assert len(found) == 17


def test_nodes_that_do_the_same_are_told_once() -> None:
    document = guide.guide(specify(ROOT / "topologies" / "ussuri-6node.yaml", base="centos8"))
    assert document.count("# dnf install -y centos-release-openstack-ussuri") == 1
    assert "all# dnf install -y centos-release-openstack-ussuri" in document
    assert document.count("storage1&storage2&storage3# dnf install -y ") == 1


def test_early_clients_are_asked_in_their_own_words() -> None:
    said = typed(guide.guide(specify(ROOT / "topologies" / "mitaka-3node.yaml", base="centos7")))
    for command in ("neutron agent-list", "cinder service-list", "neutron net-create", "neutron router-gateway-set"):
        assert command in said
    assert "openstack network" not in said
    assert "openstack volume service" not in said


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a\nb", 2),
        ("for f in x; do\na\ndone\nb", 2),
        ("if a; then\nb\nfi", 1),
        ("echo 'x\ny'\nb", 2),
        ("a &&\nb", 1),
        ("(\nexit 1\n)", 1),
        ("case $x in\na) b ;;\nesac", 1),
    ],
)
def test_a_command_goes_on_until_it_is_closed(text: str, count: int) -> None:
    assert len(list(guide.commands(text))) == count


def test_a_guide_is_made_in_less_than_a_second() -> None:
    import time

    spec = specify(ROOT / "topologies" / "ussuri-6node.yaml", base="centos8")
    began = time.process_time()
    guide.guide(spec)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(("topology", "base"), [("mitaka-3node", "centos7"), ("zed-2node", "debian12")])
@pytest.mark.parametrize("word", ["Demo Project", "o'brien", "demo$(echo run)", "a;b", "`echo run`", '"', "*", "-#\\"])
def test_a_name_is_one_word_of_every_command_and_script(topology: str, base: str, word: str, tmp_path: Path) -> None:
    made = specify(ROOT / "topologies" / f"{topology}.yaml", base=base)
    names = {"project": "project", "user": "user", "router": "router", "internal_network": "own", "image": "image"}
    names = {key: f"{name}{word}" for key, name in names.items()}
    spec = made.model_copy(update={"fixtures": made.fixtures.model_copy(update=names)})
    ctx = Context.of(spec)
    fixtures = next(stage for stage in planned(spec).stages if stage.name == "fixtures")
    shown = 'show() { printf \'<%s>\\n\' "$@"; }\nopenstack() { show "$@" >&2; }\nneutron() { show "$@" >&2; }\n'
    text = shown + "\n".join(guide.said(ctx, call) for call in fixtures.api)
    said = process.run(["sh", "-euc", text], cwd=tmp_path).stderr
    assert [name for name in names.values() if f"<{name}>" not in said] == []
    (script,) = (o for o in flatten(fixtures.nodes[ctx.identity_host]) if o.path.endswith("demo-openrc"))
    run = f'{script.content}\nprintf "%s|%s" "$OS_USERNAME" "$OS_PROJECT_NAME"'
    assert process.run(["sh", "-euc", run], cwd=tmp_path).stdout == f"{names['user']}|{names['project']}"
