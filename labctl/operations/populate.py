"""What fills a service's store: commands of its own program, on tables that a golden image may have ready."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.operations.node import CHANGED, Chain, Command, quote


@dataclass(frozen=True)
class Invocation:
    """One command of a program: its arguments, the account, and the file or test by which it is known to be done.

    ``allowed`` is a status besides 0 with which it may end. ``stamp`` is written when it has. ``fills``: it makes
    tables, and nothing that belongs to a lab alone.
    """

    title: str
    words: str
    user: str = "root"
    stamp: str = ""
    unless: str = ""
    allowed: int = 0
    source: str = ""
    typed: str = ""
    fills: bool = False

    @property
    def test(self) -> str:
        """A shell test that it is done; empty if it runs every time."""
        return self.unless or (f"[ -e {self.stamp} ]" if self.stamp else "")

    def command(self, program: str) -> Command:
        """The same as a command of its own, as the guides have it."""
        typed = self.typed or f"{program} {self.words}"
        if self.user != "root":
            typed = f'su -s /bin/sh -c "{typed}" {self.user}'
        return Command(self.title, typed, unless=self.test, source=self.source)


@dataclass(frozen=True)
class Invocations:
    """Commands of one Python program that run in sequence, in processes that share its imports (forked.py).

    ``filled`` is shell that fills tables as those of the commands that ``fills`` would: status 1 if it has nothing for
    them, 2 if it failed. ``before`` is a test that must pass if any command is due; ``environment`` are assignments for
    all of them.
    """

    title: str
    program: str
    each: tuple[Invocation, ...]
    filled: str = ""
    before: str = ""
    environment: str = ""

    @property
    def commands(self) -> tuple[Command, ...]:
        """Each as a command of its own."""
        return tuple(each.command(self.program) for each in self.each)

    def shell(self) -> str:
        lines = ["state=0"]
        stamps = [each.stamp for each in self.each if each.fills]
        if self.filled and stamps:
            lines += [
                f"if ! {{ {' && '.join(f'[ -e {stamp} ]' for stamp in stamps)}; }}; then",
                f"    {self.filled}",
                f"    case $? in 0) touch {' '.join(stamps)}; state={CHANGED} ;; 1) ;; *) return 1 ;; esac",
                "fi",
            ]
        lines.append("set --")
        for each in self.each:
            due = f'set -- "$@" {quote(each.user)} {each.allowed} {quote(each.stamp)} {quote(each.words)}'
            lines.append(f"{{ {each.test}\n}} >/dev/null 2>&1 || {due}" if each.test else due)
        lines.append("[ $# -gt 0 ] || return $state")
        if self.before:
            lines.append(f"{self.before} || return 1")
        assigned = f"{self.environment} " if self.environment else ""
        return "\n".join([*lines, f'{assigned}forked {self.program} "$@" || return 1', f"return {CHANGED}"])

    def guide(self) -> str:
        return "\n".join(c.guide() for c in self.commands)


#: What makes a service's tables.
Populate = Chain | Invocations
