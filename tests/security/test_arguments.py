"""No secret is an argument of a process on a node, where every user can read it in /proc."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import planned, specify, variants

from labctl.operations.node import Command, flatten
from labctl.secret import MARK

#: What the shell does itself, and functions of the prelude that pass their words to such commands only.
INSIDE = {"printf", "echo", "[", "test", "export", ":", "start_unit", "assign", "fill_tables"}
KEYWORDS = {"{", "}", "!", "if", "then", "else", "elif", "while", "until", "do", "exec"}
#: RabbitMQ before 3.7.16, on CentOS 7, takes a password as an argument only (docs/security.md).
KNOWN = {("centos7", f"rabbitmqctl {verb} openstack") for verb in ("add_user", "change_password", "authenticate_user")}


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a program; what follows a redirection is none of its words."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&()<>\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if set(word) <= set("<>&") and set(word) & set("<>"):
            redirected = True
        elif set(word) <= set(";|&()\n"):
            redirected = False
            yield words
            words = []
        elif redirected:
            redirected = False
        elif word in KEYWORDS and not words:
            continue
        else:
            words.append(word)
    yield words


def leaks(text: str) -> set[str]:
    """The commands of a program, without their last word, that have a secret as an argument."""
    found = set()
    for words in commands(text):
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)  # a variable of its environment, which only its own user can read
        if words and words[0] not in INSIDE and any(MARK.search(word) for word in words):
            found.add(" ".join(word for word in words if not MARK.fullmatch(word)))
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mysql -p\x02A\x03 -e x", {"mysql -p\x02A\x03 -e x"}),
        ("A=\x02A\x03 mysql -e x", set()),
        ("if { a && ctl add x \x02A\x03; } >/dev/null 2>&1; then b; fi", {"ctl add x"}),
        ("printf '%s\\n' \x02A\x03 | ctl add x", set()),
        ("[ -e x ] || sh -c 'echo \x02A\x03'", {"sh -c echo \x02A\x03"}),
        ("a\n  b 'c\nd' \x02A\x03\nf", {"b c\nd"}),
        ("( x >f \x02A\x03 )", {"x"}),
    ],
)
def test_arguments_are_recognised(text: str, wanted: set[str]) -> None:
    assert leaks(text) == wanted


@pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
def test_no_program_of_a_plan_passes_a_secret_as_an_argument(topology: Path, base: str) -> None:
    used, found = False, set()
    for stage in planned(specify(topology, base=base)).stages:
        for part in (stage.nodes, stage.after):
            for items in part.values():
                for operation in flatten(items):
                    used = used or bool(MARK.search(operation.shell()))
                    found |= {(base, command) for command in leaks(operation.shell())}
                    assert not (isinstance(operation, Command) and operation.user and MARK.search(operation.run))
    assert used
    assert found <= KNOWN
