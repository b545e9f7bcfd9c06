"""Failure capture: nothing secret is stored, nothing hides the failure, the command runs the test again."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.diagnose.report import Report
from labctl.testing import capture, waits


def test_given_values_tokens_and_passwords_are_replaced():
    redact = capture.Redactor({"s3cret", ""})
    token = "gAAAAABl" + "x" * 60
    text = redact(
        f"login s3cret with {token}\nconnection = mysql+pymysql://nova:dbpass@controller/nova\n"
        "admin_password = hunter2\nX-Auth-Token: 0123456789abcdef\nall is well"
    )
    for secret in ("s3cret", token, "dbpass", "hunter2", "0123456789abcdef"):
        assert secret not in text
    assert "@controller/nova" in text
    assert text.endswith("all is well")


def test_a_value_that_contains_another_is_replaced_whole():
    assert capture.Redactor({"abc", "abcdef"})("abcdef abc") == "*** ***"


def test_work_without_end_is_named_and_left():
    began = time.monotonic()
    said = capture.collected(capture.started(lambda: time.sleep(30) or ""), 0.1)
    assert "timed out after 0.1 s" in said
    assert time.monotonic() - began < 5


def test_an_error_of_the_capture_is_written_where_its_result_would_be():
    def broken() -> str:
        raise OSError("no route")

    assert capture.collected(capture.started(broken), 5) == "(not captured: OSError: no route)\n"
    assert capture.collected(capture.started(lambda: "text"), 5) == "text"


def test_one_line_runs_the_test_again():
    line = capture.again("zed-2node", "e2e/test_x.py::test_y[a b]")
    assert shlex.split(line) == ["labctl", "test", "zed-2node", "--", "e2e/test_x.py::test_y[a b]"]


def test_directories_are_named_after_tests():
    assert capture.folder_name("e2e/test_x.py::test_y[64MiB]") == "test_x.py-test_y[64MiB]"
    assert "/" not in capture.folder_name("e2e/sub/test_x.py::T::test_y[../../etc]")


def test_node_script_prints_only_errors_since_the_test_began(tmp_path: Path):
    logs = tmp_path / "nova"
    logs.mkdir()
    now = time.time()

    def line(age: float, text: str) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - age)) + f".123 7 {text}\n"

    (logs / "nova-api.log").write_text(
        line(3600, "ERROR nova old")
        + line(5, "INFO nova fine")
        + line(4, "ERROR nova new")
        + line(3, "ERROR nova Traceback (most recent call last)")
    )
    script = capture.node_script(now - 60).replace("/var/log/", f"{tmp_path}/")
    script = script.replace("systemctl ", "true ").replace("journalctl ", "true ")
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert "ERROR nova new" in printed.stdout
    assert "Traceback" in printed.stdout
    assert "nova old" not in printed.stdout
    assert "nova fine" not in printed.stdout
    assert printed.stderr == ""


def test_a_diagnosis_gets_some_seconds_more_than_the_rest_and_is_about_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, float | None]] = []

    def slow(name: str, only: str, since: float | None) -> Report:
        asked.append((name, only, since))
        time.sleep(0.8 if only else 30)
        return Report(failure="none")

    monkeypatch.setattr(capture, "report", slow)
    monkeypatch.setattr(capture, "DIAGNOSIS_DEADLINE", 2)
    lab: Any = SimpleNamespace(lab="lab", nodes=(), secrets=(), components=frozenset())
    only = capture.subject(Path("e2e/test_image.py"))
    capture.capture(lab, None, (), tmp_path / "image", 5.0, "it failed", only)
    assert (tmp_path / "image/diagnosis.txt").read_text() == "(no diagnosis: none)\n"
    began = time.monotonic()
    capture.capture(lab, None, (), tmp_path / "compute", 6.0, "it failed", capture.subject(Path("e2e/test_compute.py")))
    assert time.monotonic() - began < 4
    assert (tmp_path / "compute/diagnosis.txt").read_text() == "(not captured: timed out after 2 s)\n"
    assert asked == [("lab", "glance", 5.0), ("lab", "", 6.0)]


@pytest.mark.parametrize(("patience", "kept"), [(1.0, "(not captured: timed out after"), (20.0, "last words")])
def test_slow_nodes_have_the_time_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, kept: str
) -> None:
    def last_words(lab: str, node: str, since: float) -> str:
        time.sleep(0.6)
        return "last words"

    monkeypatch.setattr(capture, "node_text", last_words)
    monkeypatch.setattr(capture, "NODE_DEADLINE", 0.2)
    monkeypatch.setattr(waits, "_patience", patience)
    lab: Any = SimpleNamespace(lab="lab", nodes=("compute",), secrets=(), components=frozenset())
    capture.capture(lab, None, (), tmp_path / "kept", time.time(), "it failed")
    assert (tmp_path / "kept/node-compute.txt").read_text().startswith(kept)
    assert (tmp_path / "kept/failure.txt").read_text() == "it failed"
