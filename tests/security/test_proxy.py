"""A proxy of package downloads is for package managers and downloads only; its password is not shown."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commandline import Labctl
from support import ROOT, SMALL, planned, specify, write

from labctl import bases, progress
from labctl.errors import LabError
from labctl.host import proxy
from labctl.images import apt, bulk, download, installed, kickstart, media, pip
from labctl.operations.node import CHANGED, File, Operation, flatten
from labctl.plan.guide import guide
from labctl.releases import RELEASES
from labctl.secret import mark
from labctl.services import packages
from labctl.topology.load import TopologyError
from labctl.topology.spec import LabSpec

PLAIN, PASSWORD = "http://proxy.example:3128", "pass%21word"
WITH_PASSWORD = f"http://me:{PASSWORD}@proxy.example:3128"
MARKED = f"http://me:{mark('PROXY_PASS')}@proxy.example:3128"


def behind(text: str, url: str) -> str:
    """A topology with a proxy."""
    option = f'  proxy: "{url}"\n'
    return text.replace("options:\n", f"options:\n{option}") if "\noptions:\n" in text else f"{text}options:\n{option}"


def operations(spec: LabSpec) -> list[tuple[str, Operation]]:
    """(stage, operation) of every node."""
    parts = ((s.name, items) for s in planned(spec).stages for p in (s.nodes, s.after) for items in p.values())
    return [(stage, operation) for stage, items in parts for operation in flatten(tuple(items))]


@pytest.mark.parametrize(
    ("topology", "base", "wanted"),
    [
        ("zed-2node", "debian12", {"write /etc/apt/apt.conf.d/80labctl-proxy", "write /etc/pip.conf"}),
        ("train-2node", "centos7", {"set proxy in /etc/yum.conf", "write /etc/pip.conf", "the vault answers"}),
        ("ussuri-6node", "centos8", {"set proxy in /etc/dnf/dnf.conf", "write /etc/pip.conf", "the vault answers"}),
    ],
)
@pytest.mark.parametrize(("url", "seen"), [(PLAIN, PLAIN), (WITH_PASSWORD, MARKED)])
def test_package_managers_get_the_proxy_and_nothing_else_does(
    topology: str, base: str, wanted: set[str], url: str, seen: str, tmp_path: Path
) -> None:
    text = (ROOT / "topologies" / f"{topology}.yaml").read_text()
    without, spec = (specify(write(tmp_path, t), base=base) for t in (text, behind(text, url)))
    found = operations(spec)
    having = [(stage, o) for stage, o in found if "proxy.example" in f"{o} {o.shell()}"]
    assert {o.title for _, o in having} == wanted
    wanted = wanted | {f"only root reads {path}" for path in packages.FILES.values()}
    assert {stage for stage, _ in having} == {"packages"}
    # before the first download, and each exactly the URL
    first = next(i for i, (stage, _) in enumerate(found) if stage == "packages")
    assert found[first][1].title in wanted
    texts = [(o.content if isinstance(o, File) else o.shell()).replace(":sh\x03", "\x03") for _, o in having]
    assert all(seen in text for text in texts)
    # all the rest is the lab without a proxy; a record of what came before it has another stamp
    rest, plain = (
        [re.sub("stamp='[^']*'", "", repr(o)) for _, o in made if o.title not in wanted]
        for made in (found, operations(without))
    )
    assert rest == plain


@pytest.mark.parametrize(
    ("topology", "base", "settings"),
    [
        ("zed-2node", "debian12", None),
        ("train-2node", "centos7", "/etc/yum.conf"),
        ("ussuri-6node", "centos8", "/etc/dnf/dnf.conf"),
    ],
)
@pytest.mark.parametrize("url", [PLAIN, WITH_PASSWORD])
def test_only_root_of_a_node_reads_the_proxys_password(
    topology: str, base: str, settings: str | None, url: str, tmp_path: Path
) -> None:
    text = behind((ROOT / "topologies" / f"{topology}.yaml").read_text(), url)
    found = [o for _, o in operations(specify(write(tmp_path, text), base=base))]
    files = {o.path: o.mode for o in found if isinstance(o, File) and "proxy.example" in o.content}
    assert set(files) == ({"/etc/pip.conf"} if settings else {"/etc/pip.conf", "/etc/apt/apt.conf.d/80labctl-proxy"})
    assert set(files.values()) == {"0644" if url == PLAIN else "0600"}
    titles = [o.title for o in found]
    closing = f"only root reads {settings}"
    assert (closing in titles) == (bool(settings) and url == WITH_PASSWORD)
    if closing in titles:  # the package's file is closed before it has a password, and once
        at = titles.index(closing)
        assert titles[at + 1] == f"set proxy in {settings}"
        own = tmp_path / "own.conf"
        own.write_text("[main]\n")
        body = found[at].shell().replace(str(settings), str(own))
        assert [subprocess.run(["sh", "-c", body], check=False).returncode for _ in "ab"] == [CHANGED, 0]
        assert own.stat().st_mode & 0o777 == 0o600


def test_a_password_is_a_mark_in_plans_and_records(tmp_path: Path) -> None:
    spec = specify(write(tmp_path, behind(SMALL, WITH_PASSWORD)))
    assert spec.proxy == MARKED
    assert spec.passwords == {"PROXY_PASS": PASSWORD}
    assert PASSWORD not in str(operations(spec))
    plain = specify(write(tmp_path, behind(SMALL, f"{PLAIN}/")))
    assert (plain.proxy, plain.passwords) == (PLAIN, {})
    assert "PROXY_PASS" not in guide(spec).partition("\n## ")[0]
    with pytest.raises(ValueError, match="proxy"):
        LabSpec.model_validate_json(json.dumps({**json.loads(spec.model_dump_json()), "proxy": "http://a:1'; reboot"}))


WRONG = (
    *("proxy.example:3128", "http://proxy.example", "ftp://proxy.example:21", "https://proxy.example:443"),
    *(
        "http://proxy.example:99999",
        "http://a:b c@proxy.example:1",
        "http://$(reboot):1",
        'http://a:"@b:1',
        "http://a:'@b:1",
    ),
    *(
        "http://proxy.example:3128/path",
        "http://@proxy.example:1",
        "http://a:hush@@b:1",
        "",
        "http://-x:1",
        "http://a:%@b:1",
    ),
)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_proxy_is_refused_at_its_place_without_showing_it(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = behind(SMALL, wrong.replace('"', '\\"'))
    with pytest.raises(TopologyError) as refused:
        specify(write(tmp_path, text))
    line = text.splitlines().index(next(row for row in text.splitlines() if row.startswith("  proxy"))) + 1
    assert f"lab.yaml:{line}:" in str(refused.value)
    assert "options.proxy" in str(refused.value)
    assert "HOST:PORT" in str(refused.value)
    if wrong:
        assert wrong not in str(refused.value)
        monkeypatch.setenv("LABCTL_PROXY", wrong)
        with pytest.raises(LabError, match="LABCTL_PROXY is not the URL of a proxy") as error:
            proxy.of_machine()
        assert wrong not in str(error.value) + error.value.hint


def test_the_variable_is_for_labs_that_name_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labctl: Labctl
) -> None:
    monkeypatch.setenv("LABCTL_PROXY", WITH_PASSWORD)
    own, other = write(tmp_path, behind(SMALL, "http://own.example:1")), write(tmp_path, name="other.yaml")
    _, said, _ = labctl("plan", own)
    assert "proxy" in said
    _, said, _ = labctl("plan", "--script", "first", other)
    assert "me:***@proxy.example:3128" in said
    assert PASSWORD not in said
    _, said, _ = labctl("plan", "--script", "first", own)
    assert "http://own.example:1" in said
    assert "proxy.example" not in said
    monkeypatch.setenv("LABCTL_PROXY", "socks")
    status, _, errors = labctl("plan", other)
    assert status == 1
    assert "LABCTL_PROXY" in errors


def test_the_hosts_own_proxy_is_not_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, PLAIN)
    assert specify(write(tmp_path)).proxy == ""
    assert proxy.variables() == {}


def test_programs_that_download_get_it_in_their_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://host.example:1")
    monkeypatch.setenv("LABCTL_PROXY", WITH_PASSWORD)
    inside = pip.environment()
    assert {inside[n] for n in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_PROXY")} == {
        WITH_PASSWORD
    }
    assert bulk.proxies() == {"http": WITH_PASSWORD, "https": WITH_PASSWORD}
    with proxy.of_lab(PLAIN):
        assert pip.environment()["PIP_PROXY"] == PLAIN
    with proxy.of_lab(""):
        assert pip.environment()["PIP_PROXY"] == WITH_PASSWORD
    assert os.environ["http_proxy"] == "http://host.example:1"  # labctl's own requests to a lab use none


class Asked(BaseHTTPRequestHandler):
    """Answers what a proxy is asked for."""

    def do_GET(self) -> None:
        """Nothing is found, and the request is kept."""
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def through() -> Iterator[ThreadingHTTPServer]:
    """A proxy on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_apt_and_downloads_go_through_it_and_no_message_shows_its_password(
    through: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, log = tmp_path / "sources.list", tmp_path / "log"
    sources.write_text("deb [trusted=yes] http://mirror.example/debian suite main\n")
    said: list[str] = []
    monkeypatch.setattr(apt, "sources", lambda: sources)
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(apt.retry, "PAUSE", 0.0)
    monkeypatch.setenv("LABCTL_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{through.server_address[1]}")
    with progress.subscribed(lambda event: said.append(event.text)), pytest.raises(LabError) as index:
        apt.Archive().update(log)
    with pytest.raises(LabError) as failed:
        download.download("http://site.example/file", tmp_path / "part")
    asked = through.asked  # type: ignore[attr-defined]
    assert {url.split("/")[2] for url, _ in asked} == {"mirror.example", "site.example"}
    assert {given for _, given in asked} == {"Basic " + base64.b64encode(b"me:pass!word").decode()}
    words = f"{index.value} {index.value.hint} {failed.value} {failed.value.hint} {log.read_text()} {said}"
    assert PASSWORD not in words
    assert "pass!word" not in words
    (configuration,) = (tmp_path / "cache").rglob("apt.conf")
    assert configuration.stat().st_mode & 0o777 == 0o600


def test_an_installer_gets_it_without_changing_the_images_name(monkeypatch: pytest.MonkeyPatch) -> None:
    base, release = bases.get("centos7", RELEASES["train"].bases["centos7"]), RELEASES["train"]
    net = next(m for m in media.installers("centos7", release.rdo.point_release) if not m.packages)
    made = kickstart.anaconda(base, release, net, vault="http://vault.example", proxy=PLAIN).text
    assert f" --proxy={PLAIN}\n" in made
    assert f"export http_proxy='{PLAIN}' https_proxy='{PLAIN}'\n" in made
    debian = bases.get("debian12", RELEASES["zed"].bases["debian12"])
    with monkeypatch.context() as patch:
        patch.setenv("LABCTL_PROXY", PLAIN)
        plain, _ = installed.answers_for(debian, RELEASES["zed"], mirror_url="http://mirror.example/debian")
        assert "proxy.example" not in plain.text
        given, _ = installed.answers_for(
            debian, RELEASES["zed"], mirror_url="http://mirror.example/debian", through=proxy.without_password()
        )
        assert f"d-i mirror/http/proxy string {PLAIN}\n" in given.text
        assert "rm -f /target/etc/apt/apt.conf" in given.text
        patch.setenv("LABCTL_PROXY", WITH_PASSWORD)
        with pytest.raises(LabError, match="must have no password") as refused:
            proxy.without_password()
        assert PASSWORD not in str(refused.value)
