"""Secrets never show themselves: not as values, not in URLs, not as words, not as what looks like one."""

from __future__ import annotations

import shlex
from urllib.parse import unquote

import pytest

from labctl.host import process
from labctl.operations.node import quote
from labctl.secret import Redactor, Secret, hide, mark, redact, reveal


def test_a_secret_shows_itself_only_on_purpose() -> None:
    secret = Secret("hunter2hunter2")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret.reveal() == "hunter2hunter2"


def test_marks_become_values_or_stars() -> None:
    assert reveal("p=\x02A_PASS\x03", {"A_PASS": Secret("x")}) == "p=x"
    assert hide("p=\x02A_PASS\x03") == "p=***"
    with pytest.raises(KeyError):
        reveal("\x02B_PASS\x03", {})


def test_a_long_value_is_hidden_wherever_it_stands() -> None:
    text = redact("aXs3cretvalueXb s3cretvalue", {"A": Secret("s3cretvalue")})
    assert text == "aX***Xb ***"


def test_a_value_that_contains_another_is_hidden_whole() -> None:
    assert Redactor(["abcdefgh", "abcdefghijkl"])("abcdefghijkl abcdefgh") == "*** ***"


@pytest.mark.parametrize("value", ["a", "demo", "12345"])
def test_a_short_value_is_hidden_where_it_stands_alone(value: str) -> None:
    hidden = redact(f"password={value} '{value}', mysql -p{value} -u x, x{value}x {value}_", {"A": Secret(value)})
    assert hidden == f"password=*** '***', mysql -p*** -u x, x{value}x {value}_"


def test_an_empty_value_hides_nothing() -> None:
    assert Redactor([""])("all is well") == "all is well"


def test_a_value_is_hidden_as_urls_write_it() -> None:
    hide_ = Redactor(["p@ss/word#1"], guess=False)
    assert hide_("mysql://nova:p%40ss%2Fword%231@controller p@ss/word#1") == "mysql://nova:***@controller ***"


def test_what_looks_like_a_secret_is_hidden_though_nobody_named_it() -> None:
    token = "gAAAAABl" + "x" * 60
    text = (
        f"token {token}\n"
        "connection = mysql+pymysql://nova:dbpass@controller/nova\n"
        "admin_password = hunter2\n"
        '{"password": "hunter3"}\n'
        "metadata_proxy_shared_secret = hunter4\n"
        "SECRET_KEY='hunter5'\n"
        "X-Auth-Token: 0123456789abcdef\n"
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\n-----END PRIVATE KEY-----\n"
    )
    hidden = Redactor([])(text)
    for secret in (token, "dbpass", "hunter2", "hunter3", "hunter4", "hunter5", "0123456789abcdef", "MC4CAQAwBQ"):
        assert secret not in hidden
    assert "admin_password = ***" in hidden
    assert "mysql+pymysql://***@controller/nova" in hidden
    assert Redactor([], guess=False)(text) == text


@pytest.mark.parametrize(
    "text",
    ["Access denied for user 'nova'@'controller' (using password: YES)", "passwords are kept", "a secret of success"],
)
def test_what_only_sounds_like_a_secret_stays(text: str) -> None:
    assert Redactor([])(text) == text


def test_hiding_twice_changes_nothing() -> None:
    hide_ = Redactor(["s3cretvalue", "demo"])
    once = hide_("password = s3cretvalue, demo, mysql://u:p@h")
    assert hide_(once) == once


def test_what_is_left_of_a_cut_value_is_hidden() -> None:
    hide_ = Redactor(["0123456789abcdef", "fedcba9876543210"])
    assert hide_("assert ('0123456789...876543210') == 'x'") == "assert ('***...***') == 'x'"
    assert hide_("{'0...bcdef', ...}") == "{'0...***', ...}"
    assert hide_("waiting... done, 1234...") == "waiting... done, 1234..."


@pytest.mark.parametrize(
    "value", ["plain", "it's", 'a"b', "$HOME", "a b", "%s", "\\", "\\$x", "비밀", "@/:#", "'x'", '"']
)
def test_a_value_is_written_in_the_language_of_its_place(value: str) -> None:
    secrets = {"A": Secret(value)}
    assert shlex.split(reveal(quote(mark("A")), secrets)) == [value]
    assert shlex.split(reveal(quote(f"it's {mark('A')}"), secrets)) == [f"it's {value}"]
    inner = reveal(quote(f"printf %s {quote(mark('A'))}"), secrets)
    assert process.run(["sh", "-c", f"sh -c {inner}"]).stdout == value
    assert unquote(reveal(mark("A", "url"), secrets)) == value


def test_a_mark_that_somebody_typed_is_text() -> None:
    assert reveal("@@A_PASS@@ \\x02A_PASS\\x03", {"A_PASS": Secret("x")}) == "@@A_PASS@@ \\x02A_PASS\\x03"
