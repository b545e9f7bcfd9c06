"""Operations: one idempotent change or check each, as data.

A node operation renders itself as the body of a POSIX sh function. Its exit status is
0 for nothing to do, 10 for changed, anything else for failed. It also renders itself as a progress line (``title``)
and as text of an install guide. Only the engine runs operations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from labctl.secret import MARK, mark, names, unwritten, within
from labctl.text import quoting

CHANGED = 10


class Operation(Protocol):
    """One change or check on a node."""

    def __hash__(self) -> int:
        """Operations are values."""
        ...

    @property
    def title(self) -> str:
        """The progress line."""
        ...

    def shell(self) -> str:
        """The body of the sh function that does it."""
        ...

    def guide(self) -> str:
        """The same step for a person: commands or a file, without markup."""
        ...


@lru_cache(maxsize=2**14)
def quote(word: str) -> str:
    """Quote one word for sh, with the secrets whose marks it has."""
    plain = MARK.sub("x", word)
    return within(word, "sh") if quoting.sh(plain) == plain else within(quoting.sh(word), "quotes")


@dataclass(frozen=True)
class File:
    """A file with exactly this content, owner and mode; ``source`` says where the content comes from."""

    path: str
    content: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    source: str = ""

    @property
    def title(self) -> str:
        return f"write {self.path}"

    @property
    def payload(self) -> str:
        """The file's name in the uploaded archive."""
        return "files" + self.path

    def shell(self) -> str:
        words = (self.payload, self.path, self.owner, self.group, self.mode)
        return "put_file " + " ".join(quote(w) for w in words)

    def guide(self) -> str:
        return f"# {self.path} ({self.owner}:{self.group} {self.mode})\n{self.content}"


@dataclass(frozen=True)
class Directory:
    """A directory with this owner and mode."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0755"

    @property
    def title(self) -> str:
        return f"make {self.path}"

    def shell(self) -> str:
        return "put_directory " + " ".join(quote(w) for w in (self.path, self.owner, self.group, self.mode))

    def guide(self) -> str:
        return f"install -d -o {self.owner} -g {self.group} -m {self.mode} {self.path}"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    @property
    def title(self) -> str:
        return f"link {self.path} to {self.target}"

    def shell(self) -> str:
        return f"put_link {quote(self.path)} {quote(self.target)}"

    def guide(self) -> str:
        return f"ln -sfn {self.target} {self.path}"


@dataclass(frozen=True)
class Assign:
    """``key = value`` lines in a file that belongs to a package; the rest of the file is kept."""

    path: str
    values: tuple[tuple[str, str], ...]
    source: str = ""
    separator: str = " = "

    @property
    def title(self) -> str:
        return f"set {', '.join(k for k, _ in self.values)} in {self.path}"

    def shell(self) -> str:
        lines = ["state=0"]
        for key, value in self.values:
            words = " ".join(quote(w) for w in (self.path, key, self.separator, value))
            lines.append(f"assign {words} || {{ s=$?; [ $s -eq {CHANGED} ] || return $s; state={CHANGED}; }}")
        return "\n".join([*lines, "return $state"])

    def guide(self) -> str:
        return f"# in {self.path}\n" + "\n".join(f"{k}{self.separator}{v}" for k, v in self.values)


@dataclass(frozen=True)
class Command:
    """A shell command that is skipped when its test passes.

    ``unless`` is a shell test; without one the command runs every time and counts as changed, or as a
    check when ``changes`` is false. ``user`` runs it under that account. ``typed`` is the documented line where
    that differs, because it shows a secret to every user of the node.
    """

    title: str
    run: str
    unless: str = ""
    user: str = ""
    changes: bool = True
    source: str = ""
    typed: str = ""

    def _as_user(self, text: str) -> str:
        return f"runuser -u {quote(self.user)} -- sh -c {quote(text)}" if self.user else text

    def shell(self) -> str:
        lines = []
        if self.unless:
            lines.append(f"if {{ {self.unless}\n}} >/dev/null 2>&1; then exit 0; fi")
        lines.append(f"{{ {self._as_user(self.run)}\n}} || exit 1")
        lines.append(f"exit {CHANGED if self.changes else 0}")
        return "\n".join(lines)

    def guide(self) -> str:
        return f'su -s /bin/sh -c "{self.run}" {self.user}' if self.user else self.typed or self.run


#: After unit files or their drop-ins were written.
RELOAD = Command("systemd reads its unit files", "systemctl daemon-reload", changes=False)


@dataclass(frozen=True)
class Packages:
    """Packages to install; a golden image has them all, so this normally only checks."""

    names: tuple[str, ...]
    family: str = "debian"
    installer: str = "apt-get"

    @property
    def title(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{len(self.names)} packages installed"

    def shell(self) -> str:
        return "install_packages " + " ".join(quote(n) for n in self.names)

    def guide(self) -> str:
        return f"{self.installer} install -y {' '.join(self.names)}"


@dataclass(frozen=True)
class Distributions:
    """Exact versions of Python distributions in an environment; an image without them is the wrong one."""

    environment: str
    #: (name, version)
    versions: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        return f"{len(self.versions)} projects in {self.environment}"

    def shell(self) -> str:
        # names of installed distributions have underscores: PyPA, recording installed projects
        wanted = (f"{name.replace('-', '_')}-{version}" for name, version in self.versions)
        return f"check_distributions {quote(self.environment)} " + " ".join(quote(w) for w in wanted)

    def guide(self) -> str:
        pins = " ".join(f"{name}=={version}" for name, version in self.versions)
        return f"{self.environment}/bin/pip install -c upper-constraints.txt {pins}"


@dataclass(frozen=True)
class Unit:
    """A systemd unit that is enabled, running, and was started after its inputs last changed.

    ``inputs`` is the text of everything the daemon reads; its hash is kept on the node, so a unit is
    restarted exactly when one of its files or its schema changed.
    """

    name: str
    inputs: tuple[str, ...] = field(default=(), repr=False)
    seconds: int = 90
    #: which daemon is started, if several share the unit; each has its own stamp
    part: str = ""

    @property
    def title(self) -> str:
        return f"start {self.name} for {self.part}" if self.part else f"start {self.name}"

    @property
    def stamp(self) -> str:
        """Hash of the inputs."""
        return hashlib.sha256(unwritten("\0".join(self.inputs)).encode()).hexdigest()[:16]

    def shell(self) -> str:
        secrets = " ".join(mark(name) for name in sorted(names("\0".join(self.inputs))))
        words = f"start_unit {quote(self.name)} {self.stamp} {self.seconds} {quote(secrets)}"
        return f"{words} {quote(self.part)}" if self.part else words

    def guide(self) -> str:
        return f"systemctl enable {self.name}\nsystemctl restart {self.name}"


@dataclass(frozen=True)
class Wait:
    """Wait until a shell test passes; fails at once when one of ``units`` has failed.

    :param seconds: deadline.
    """

    title: str
    test: str
    units: tuple[str, ...] = ()
    seconds: int = 60

    def shell(self) -> str:
        return f"wait_for {self.seconds} {quote(' '.join(self.units))} {quote(self.test)}"

    def guide(self) -> str:
        return f"# wait until this succeeds\n{self.test}"


@dataclass(frozen=True)
class Record:
    """A guide's own "verify operation" whose output is kept, on the node and then in the lab's directory.

    It runs once for each ``stamp``, the hash of what it verifies.
    """

    name: str
    run: str
    stamp: str = ""
    source: str = "guide: verify operation"
    #: directory on the node
    directory: str = "/var/lib/labctl/verify"

    @property
    def title(self) -> str:
        return f"keep what {self.name} says"

    @property
    def path(self) -> str:
        """The file on the node."""
        return f"{self.directory}/{self.name}.txt"

    def shell(self) -> str:
        words = " ".join(quote(w) for w in (self.path, self.stamp, self.run))
        return f"keep_record {words}"

    def guide(self) -> str:
        return self.run


@dataclass(frozen=True)
class Database:
    """A database, its account, and both grants (from localhost and from anywhere)."""

    name: str
    user: str
    password: str  # a secret's mark
    charset: str = "utf8"

    @property
    def title(self) -> str:
        return f"database {self.name} for {self.user}"

    @property
    def create(self) -> str:
        """The statement that makes it, without its account."""
        return f"CREATE DATABASE IF NOT EXISTS {self.name} CHARACTER SET {self.charset};"

    def statements(self) -> tuple[str, ...]:
        """The SQL of the install guides' "Prerequisites"; idempotent."""
        accounts = [f"'{self.user}'@'localhost'", f"'{self.user}'@'%'"]
        password = within(self.password, "sql")
        return (
            self.create,
            *(f"GRANT ALL PRIVILEGES ON {self.name}.* TO {a} IDENTIFIED BY '{password}';" for a in accounts),
        )

    def test(self) -> str:
        """A shell test: the account can enter the database."""
        return f"MYSQL_PWD={quote(self.password)} mysql -u {self.user} -h 127.0.0.1 -e 'select 1' {self.name}"

    def shell(self) -> str:
        sql = " ".join(self.statements())
        return (
            f"if {{ {self.test()}; }} >/dev/null 2>&1; then return 0; fi\n"
            f"printf '%s\\n' {quote(sql)} | mysql -u root || return 1\nreturn {CHANGED}"
        )

    def guide(self) -> str:
        return "mysql -u root\n" + "\n".join(self.statements())


@dataclass(frozen=True)
class Parallel:
    """Operations that do not depend on each other; at most ``jobs`` run at once (0: as many as cores)."""

    operations: tuple[Operation, ...]
    jobs: int = 0


Item = Operation | Parallel


def flatten(items: tuple[Item, ...]) -> tuple[Operation, ...]:
    """Return the operations of a list in numbering order."""
    flat: list[Operation] = []
    for item in items:
        flat.extend(item.operations if isinstance(item, Parallel) else (item,))
    return tuple(flat)


@dataclass(frozen=True)
class Chain:
    """Commands that run in sequence, as one operation among parallel ones."""

    title: str
    commands: tuple[Command, ...]

    def shell(self) -> str:
        lines = ["state=0"]
        for command in self.commands:
            lines += [
                f"( {command.shell()}\n)",
                f"s=$?; case $s in 0) ;; {CHANGED}) state={CHANGED} ;; *) return $s ;; esac",
            ]
        return "\n".join([*lines, "return $state"])

    def guide(self) -> str:
        return "\n".join(c.guide() for c in self.commands)


@dataclass(frozen=True)
class Copy:
    """Files created on one node and needed, byte for byte, on others; the engine copies them."""

    paths: tuple[str, ...]
    source: str
    targets: tuple[str, ...]
    origin: str = ""

    @property
    def title(self) -> str:
        return f"copy {len(self.paths)} files from {self.source} to {', '.join(self.targets)}"

    def guide(self) -> str:
        return "\n".join(f"scp -p {' '.join(self.paths)} root@{target}:/etc/swift/" for target in self.targets)
