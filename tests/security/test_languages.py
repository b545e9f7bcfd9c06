"""Text inside pages, charts, Vagrant's data, answers of installers, XML, hosts files, units and lines of a terminal."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from support import ROOT, planned, specify, write

from labctl import bases
from labctl.commands import console
from labctl.commands.terminal import visible
from labctl.drivers.libvirt.domain import Accelerator, Disk, Domain, Firmware, Mark, read_mark
from labctl.drivers.vagrant import document
from labctl.errors import LabError
from labctl.host import home
from labctl.images import kickstart, media
from labctl.images.box import Box
from labctl.images.pypi_units import ACCOUNTS, sudoers
from labctl.lab.choose import draft
from labctl.nightly import report, svg
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.operations.node import File
from labctl.progress import Event, Kind
from labctl.releases import RELEASES
from labctl.secret import mark
from labctl.testing.junit import Case
from labctl.topology.load import TopologyError, parse
from labctl.topology.model import MAX_HOST_NAME, NAME, Vault

ZED = ROOT / "topologies" / "zed-2node.yaml"
SHORT = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
HOSTILE = "</title></svg><script>x</script>{{ 7*7 }}{% x %}&amp;\"'`$(id)\\[bold]비밀 \x1b[2J\x07\x7f END"
MEANT = "<>&\"'{}[]%\\/#;:,\x00\x1b é비"
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=20) | st.text(MEANT, max_size=20)
PRINTED = ANY.filter(lambda text: text.replace("\t", "").isprintable())


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, ...]] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, *(key for key, _ in attrs)))
        self.said += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def night(where: Path, text: str) -> dict[str, Page]:
    """The pages of a night in which everything that has a free text has this one."""
    cell = Cell(name=f"a{text}a", topology="x")
    with History(where / "history.sqlite") as history:
        run = history.begin_run([cell])
        (row,) = history.cells(run)
        attempt = history.begin_attempt(row["id"], 1, "0" * 40)
        history.update_attempt(attempt, outcome="failed", diagnosis=f"b{text}b", message="x", ended=2.0)
        history.record_stage(attempt, f"up/c{text}c", "failed", 60.0, 1.0)
        history.record_tests(attempt, [Case(f"d{text}d", "failed", 1.0, f"e{text}e")])
        history.record_findings(attempt, [{"where": f"f{text}f", "what": f"g{text}g", "last": f"h{text}h"}])
        values = {"state": "done", "outcome": "failed", "bad_stage": "test", "message": f"i{text}i", "ended": 2.0}
        history.update_cell(row["id"], began=1.0, **values)
        history.end_run(run)
        report.write(history, where / "report")
    return {page.name: Page(page.read_bytes().decode()) for page in sorted((where / "report").glob("*.html"))}


@SHORT
@given(text=ANY)
@example(text=HOSTILE)
def test_a_page_of_a_night_has_texts_as_they_are(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    made, plain = (night(tmp_path_factory.mktemp("night"), each) for each in (text, "x"))
    assert {name: page.shape for name, page in made.items()} == {name: page.shape for name, page in plain.items()}
    said = "".join(part for page in made.values() for part in page.said)
    assert {letter for letter in "abdefghi" if f"{letter}{text}{letter}" not in said} == set()


@SHORT
@given(text=PRINTED)
@example(text="</title></svg><script>&amp;\"'")
def test_a_chart_has_names_as_they_are(text: str) -> None:
    chart = ElementTree.fromstring(svg.chart(f"a{text}", {f"b{text}": [(1, 60.0)]}))
    assert [title.text for title in chart.iter("title")] == [f"b{text}"]
    text = text.replace("\t", " ")  # as XML reads attributes
    assert chart.get("aria-label") == f"a{text}: b{text} 1.0 min"
    assert ElementTree.fromstring(svg.strip([(1, "passed")], text)).get("aria-label") == f"{text}: 1 passed"


@SHORT
@given(text=ANY)
@example(text=HOSTILE)
def test_vagrants_data_has_texts_as_they_are(text: str) -> None:
    spec = draft(parse(ZED.read_text(), "lab.yaml")).spec
    box = Box(text, text, text, text)
    made = json.loads(document.render(spec, document.Settings(box, consoles={"controller": Path("/", text or "x")})))
    assert {made["box"][key] for key in ("name", "version", "url", "checksum")} == {text}
    assert made["nodes"][0]["console"] == str(Path("/", text or "x"))


def legal(url: str) -> bool:
    try:
        return bool(TypeAdapter(Vault).validate_python(url))
    except ValidationError:
        return False


@SHORT
@given(path=ANY)
@example(path="#i")
@example(path=";b|c$d(e)<f>{{ g }}%h")
def test_an_installer_gets_urls_as_they_are(path: str) -> None:
    url = f"http://mirror.example/a{path}z"
    if not legal(url):
        return
    release = RELEASES["train"]
    base = bases.get("centos7", release.bases["centos7"])
    net = next(m for m in media.installers("centos7", "7.9.2009") if not m.packages)
    text = kickstart.anaconda(base, release, net, vault=url).text
    (words,) = [shlex.split(line, comments=True) for line in text.split("\n") if line.startswith("url ")]
    assert words == ["url", f"--url={url}/7.9.2009/os/x86_64/"]
    debian = bases.get("debian12", RELEASES["zed"].bases["debian12"])
    if "?" not in url:  # no archive of Debian has a query
        answers = kickstart.preseed(debian, url).text.split("\n")
        assert f"d-i mirror/http/directory string /a{path}z" in answers


@pytest.mark.parametrize("rest", ["a#b", mark("ADMIN_PASS"), "\x1b[2J", "a\x7f", "a b"])
def test_a_url_that_installers_or_programs_read_otherwise_is_refused_at_its_place(rest: str) -> None:
    text = ZED.read_text().rstrip() + f"\noptions: {{vault: {json.dumps('http://x/' + rest)}}}\n"
    with pytest.raises(TopologyError, match=rf"lab.yaml:{text.count(chr(10))}:18: options.vault: .* is not a URL: "):
        parse(text, "lab.yaml")


@SHORT
@given(text=PRINTED)
@example(text="a\tb,c:d'e\"<f>&\\]]>")
def test_a_machines_xml_has_paths_as_they_are(text: str) -> None:
    place = Path("/", text or "x")
    mark = Mark("lab", "id", "node", str(place))
    disks = [Disk(place, "serial")]
    machine = Domain(mark, Accelerator("kvm", "maximum"), "q35", 1, 2**30, Firmware(), disks, [], place)
    assert read_mark(machine.xml()) == mark
    (source,) = ElementTree.fromstring(machine.xml()).findall("devices/disk/source")
    assert source.get("file") == str(place)


@pytest.mark.parametrize("name", ["a\nb", "a\x01b", "a\udcffb"])
def test_a_home_that_files_of_the_system_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / name))
    with pytest.raises(LabError, match=r"LABCTL_HOME has the character .*, which is not printed"):
        home.secure()
    assert list(tmp_path.iterdir()) == []


@SHORT
@given(names=st.lists(st.from_regex(NAME, fullmatch=True), min_size=2, max_size=2, unique=True))
@example(names=["x" * MAX_HOST_NAME, "y--" + "1" * 20])
def test_a_hosts_file_has_each_node_at_its_address(names: list[str]) -> None:
    values = yaml.safe_load(ZED.read_text())
    values["nodes"] = dict(zip(names, values["nodes"].values(), strict=True))
    try:
        spec = draft(parse(yaml.safe_dump(values, sort_keys=False), "lab.yaml")).spec
    except TopologyError:
        return
    lines = [line.split() for line in spec.hosts_file.splitlines()]
    assert lines[2:] == [[str(spec.address(node)), name] for name, node in zip(names, spec.nodes.values(), strict=True)]


def test_units_and_sudoers_have_no_free_text(tmp_path: Path) -> None:
    odd = yaml.safe_load(ZED.read_text())
    odd |= {"description": "[Service]\nExecStart=/x", "fixtures": {"user": "%n $x", "project": "ALL = (ALL)"}}
    odd["options"] = {**odd.get("options", {}), "region": "a-1.b_C"}
    first, second = (
        {(node, f.path): f.content for node in spec.nodes for f in planned(spec).files(node) if code(f)}
        for spec in (specify(path, base="debian12") for path in (ZED, write(tmp_path, yaml.safe_dump(odd))))
    )
    assert first == second != {}
    for account in ACCOUNTS:
        rules = tmp_path / account.name
        rules.write_text(sudoers(account.name))
        assert re.fullmatch("[a-z]+", account.name)
        if visudo := shutil.which("visudo"):
            subprocess.run([visudo, "-cqf", rules], check=True)


def code(file: File) -> bool:
    return "/systemd/" in file.path or "/sudoers" in file.path


@SHORT
@given(text=ANY.map(lambda text: re.sub(r"\s", " ", text)))  # a tab becomes blanks
@example(text="[bold]x[/]\\ :smile: \x1b[2J [link=http://x]")
def test_a_terminal_gets_text_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    capsys.readouterr()
    console.Plain().print(text)
    assert capsys.readouterr().out == f"{visible(text)}\n"
    lines = console._Lines()
    for kind in (Kind.BEGIN, Kind.NOTE, Kind.WARN, Kind.FAIL):
        lines(Event(kind, text, text, 1.0))
        assert capsys.readouterr().err.count(visible(text)) >= 2 * bool(text)
    console.listing(console.Format.TABLE, [{"name": f"a{text}b"}], ["name"])
    assert f"a{visible(text)}b" in "\n".join(row.rstrip() for row in capsys.readouterr().out.split("\n"))
