"""Sessions to a lab's APIs: versions are asked for once, and slow labs have longer to answer."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1 import discover
from keystoneauth1.session import Session
from support import IDENTITY, specify, write

from labctl.commands import access as commands
from labctl.engine import cloud as engine_cloud
from labctl.host import process
from labctl.records import access, cloud
from labctl.records.lab import Lab
from labctl.secret import Secret


class Keystone(http.server.ThreadingHTTPServer):
    """A server that says which versions it has, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v3"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Keystone

    def do_GET(self) -> None:
        self.server.asked += 1
        links = [{"rel": "self", "href": self.server.url}]
        answer = json.dumps({"version": {"id": "v3.14", "status": "stable", "links": links}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "_versions", type(cloud._versions)(dict))


def versions(lab: str, user: str, keystone: Keystone) -> discover.Discover:
    access: Any = SimpleNamespace(lab=lab, auth_url=keystone.url, patience=1.0)
    session = cloud.session(access, user, "password", "project")
    return discover.get_discovery(session, keystone.url)


def test_versions_are_asked_for_once_for_all_users_of_a_lab(keystone: Keystone) -> None:
    said = [versions("lab", user, keystone).url_for((3, 0)) for user in ("admin", "one", "two")]
    assert said == [keystone.url] * 3
    assert keystone.asked == 1


def test_what_another_lab_said_at_the_same_address_is_not_taken_over(keystone: Keystone) -> None:
    # labs of the same documented addresses live side by side, each in a namespace of its own
    versions("lab", "admin", keystone)
    versions("other", "admin", keystone)
    assert keystone.asked == 2


@pytest.mark.parametrize(("patience", "seconds"), [(1.0, 20), (10.0, 200)])
def test_a_slow_lab_has_as_much_longer_for_each_answer(
    patience: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # also for the very first question, which decides whether the lab works at all
    asked = []
    monkeypatch.setattr(Session, "get_token", lambda self: asked.append(self.timeout))
    access: Any = SimpleNamespace(
        lab="lab", auth_url="http://nowhere", patience=patience, admin_password="p", admin_project="admin"
    )
    cloud.check(access)
    assert asked == [seconds]


def test_session_remembers_the_services_in_which_it_changed_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "request", lambda *_, **__: None)
    access: Any = SimpleNamespace(lab="lab", auth_url="http://nowhere", patience=1.0, region="RegionOne")
    user, other = (cloud.connect(access, name, "password", "project") for name in ("user", "other"))
    user.session.get("/servers", endpoint_filter={"service_type": "compute"})
    user.session.head("/images/id", endpoint_filter={"service_type": "image"})
    user.session.post("http://nowhere/auth/tokens", authenticated=False)  # its own token
    assert cloud.changed(user, other) == set()
    user.session.post("/servers", endpoint_filter={"service_type": "compute"})
    other.session.put("/container/object", endpoint_filter={"service_type": "object-store"})
    other.session.delete("http://nowhere/v3/auth/tokens")  # who knows which service that is
    assert cloud.changed(user, other) == {"compute", "object-store", ""}
    cloud.forget_changes(user)
    assert cloud.changed(user) == set()
    assert cloud.changed(other) == {"object-store", ""}


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_labs_apis_are_not_asked_through_the_hosts_proxy(
    keystone: Keystone, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert cloud.Session().get(keystone.url, authenticated=False).status_code == 200

    path = write(tmp_path, IDENTITY)
    lab = Lab.create(specify(path), path)
    engine = engine_cloud.Cloud(lab, {"ADMIN_PASS": Secret("a")}, None)
    assert engine._session.get(keystone.url, authenticated=False).status_code == 200


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "no_proxy"])
def test_programs_in_a_lab_are_not_told_the_hosts_proxy(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, IDENTITY)
    lab = Lab.create(specify(path), path)
    access.write(lab, "http://api:5000", {"ADMIN_PASS": Secret("a"), "DEMO_PASS": Secret("d")})
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    given = commands._environment(lab)
    assert variable not in given
    assert (given["OS_AUTH_URL"], given["LABCTL_LAB"]) == ("http://api:5000/v3", "identity")
    assert given["PATH"]


@pytest.mark.parametrize("word", ["Demo Project", "o'brien", "demo$(echo run)", "a=b", '"', "# none"])
def test_credentials_are_the_same_to_a_shell_and_to_labctl(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, IDENTITY + f"fixtures: {json.dumps({'project': word, 'user': word})}\n")
    lab = Lab.create(specify(path), path)
    access.write(lab, "http://api:5000", {"ADMIN_PASS": Secret("a"), "DEMO_PASS": Secret("d")})
    script = lab.directory / "access" / "demo-openrc"
    said = process.run(["sh", "-euc", f'. {script}; printf "%s|%s" "$OS_USERNAME" "$OS_PROJECT_NAME"']).stdout
    assert said == f"{word}|{word}"
    assert access.environment(lab, "demo")["OS_PROJECT_NAME"] == word
