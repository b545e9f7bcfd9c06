"""The image of a release from PyPI: its environment, and what distribution packages would add.

Layers: the base's system, the interpreter, the environment with the projects (minutes), and this one (seconds),
which makes the projects look like installed packages: accounts, directories, commands on PATH, configuration,
units.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.host import files
from labctl.images import dashboard, debian, python, stack, store, venv
from labctl.images.pypi_units import ACCOUNTS, COMMAND_PROJECTS, DAEMONS, Account, Wsgi, sudoers
from labctl.releases.model import Release

#: Increment when the steps below change the content of the layer.
RECIPE_VERSION = 3
UNITS = "usr/lib/systemd/system"
#: A system's command directories; their commands are never replaced by a project's.
PATH = ("usr/bin", "usr/sbin", "bin", "sbin")


@store.keeping()
def ensure(base: Base, release: Release) -> tuple[Path, ...]:
    """Return the layers of a release on a base, uppermost first, building missing ones.

    :raises LabError: the machine has no suitable interpreter; nothing is built then.
    """
    if release.pypi is None:
        raise LabError(f"labctl has no list of PyPI projects for {release.title}")
    found = python.find(release.pypi.python, release.title)
    system = debian.ensure(base)
    runtime = python.ensure(found)
    packages = store.manifest_of(system[0])["packages"]
    projects = venv.Environment(release, release.pypi, found, system, runtime, packages, base.suite).ensure()
    names = list(release.pins)
    recipe = store.Recipe(
        f"{base.name}-{release.name}",
        {
            "version": RECIPE_VERSION,
            # the system's accounts have ids that its package scripts assigned
            "system": [store.identity(layer) for layer in system],
            "projects": projects.name,
            "commands": sorted([*names, *COMMAND_PROJECTS]),
            "files": hashlib.sha256(repr(list(_files(release))).encode()).hexdigest(),
            "accounts": [repr(a) for a in ACCOUNTS],
        },
    )
    made = store.ensure(recipe, lambda work: _build(release, work, system, projects, names), over=(projects, *system))
    return (made, projects, runtime, *system)


def _files(release: Release) -> Iterator[tuple[str, str, str]]:
    """(pattern in the environment that needs it, path, text) of each file that belongs to no project.

    A later one takes the place of an earlier one of its path: Epoxy has both a command and a module of some APIs, and
    bases whose recipes give them to uWSGI need the module.
    """
    for daemon in sorted(DAEMONS, key=lambda each: isinstance(each, Wsgi)):
        yield daemon.needs, f"{UNITS}/{daemon.unit}.service", daemon.render()
        if isinstance(daemon, Wsgi):
            yield daemon.needs, daemon.ini.lstrip("/"), daemon.configuration(release.environment)
    settings = f"{dashboard.DIRECTORY}/local_settings.py".lstrip("/")
    yield "lib/python*/site-packages/openstack_dashboard", settings, dashboard.settings(release)


def _has(environment: Path, pattern: str) -> bool:
    return any(environment.glob(pattern))


def _build(release: Release, work: Path, system: tuple[Path, ...], projects: Path, names: list[str]) -> dict[str, Any]:
    tree = work / "tree"
    home = release.environment
    environment = projects / "tree" / home.lstrip("/")
    present = {a.name: a for a in ACCOUNTS if _concerns(a, environment)}
    linked = _commands(environment, [*names, *COMMAND_PROJECTS])
    _link(tree, system, home, linked)
    _accounts(tree, system, list(present.values()))
    if (environment / "etc").is_dir():
        _copy(environment / "etc", tree / "etc", tree)
    for needs, path, text in _files(release):
        if _has(environment, needs):
            _write(tree / path, text)
    for account in present.values():
        _directories(tree, account)
        if account.rootwrap:
            _write(tree / f"etc/sudoers.d/{account.name}", sudoers(account.name), 0o440)
    lines = [f"d /run/{place}{name} 0755 {name} {name} -\n" for name in present for place in ("", "lock/")]
    _write(tree / "usr/lib/tmpfiles.d/openstack.conf", "".join(lines))
    _inherit(tree, system)
    return {"commands": sorted(linked)}


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    files.make_directories(path.parent)
    files.write_atomic(path, text, mode, within=path.parent)


def _copy(source: Path, target: Path, tree: Path) -> None:
    """Copy a directory with all below it; what is there and has other names stays."""
    files.make_directories(target, source.stat().st_mode & 0o7777, within=tree)
    for path in sorted(source.iterdir()):
        if path.is_symlink():
            files.link(target / path.name, str(path.readlink()), within=tree)
        elif path.is_dir():
            _copy(path, target / path.name, tree)
        else:
            files.copy(path, target / path.name, within=tree)


def _inherit(tree: Path, system: tuple[Path, ...]) -> None:
    """Copy owner and mode of directories that the system also has: a node sees those of the uppermost layer."""
    for directory in [p for p in tree.rglob("*") if p.is_dir() and not p.is_symlink()]:
        below = stack.find(system, directory.relative_to(tree))
        if below is not None and below.is_dir():
            status = below.stat()
            files.set_owner(directory, status.st_uid, status.st_gid)
            files.set_mode(directory, status.st_mode & 0o7777)


def _concerns(account: Account, environment: Path) -> bool:
    """True when the environment has a daemon that runs as this account."""
    return any(d.user == account.name and _has(environment, d.needs) for d in DAEMONS)


def _commands(environment: Path, names: list[str]) -> list[str]:
    """The commands that the named distributions installed, from their RECORD files."""
    wanted = {canonicalize_name(n) for n in names}
    found = set()
    for info in environment.glob("lib/python*/site-packages/*.dist-info"):
        if canonicalize_name(info.name.removesuffix(".dist-info").split("-", 1)[0]) not in wanted:
            continue
        with (info / "RECORD").open(newline="") as record:
            paths = [Path(row[0]) for row in csv.reader(record)]
        found |= {p.name for p in paths if p.parent.name == "bin" and ".." in p.parts}
    return sorted(name for name in found if (environment / "bin" / name).exists())


def _link(tree: Path, system: tuple[Path, ...], home: str, commands: list[str]) -> None:
    files.make_directories(tree / "usr/bin")
    for name in commands:
        if not any(stack.find(system, f"{place}/{name}") for place in PATH):
            files.link(tree / "usr/bin" / name, f"{home}/bin/{name}")


def _accounts(tree: Path, system: tuple[Path, ...], accounts: list[Account]) -> None:
    """Add users and groups to copies of the system's files, which a layer can only replace as a whole."""
    names = {a.name for a in accounts}
    found = {n: stack.find(system, f"etc/{n}") for n in ("passwd", "group", "shadow", "gshadow")}
    sources = {n: path for n, path in found.items() if path is not None}
    tables = {
        # Debian's novnc creates a user nova without any nova package
        n: [line for line in path.read_text().splitlines() if line.split(":")[0] not in names]
        for n, path in sources.items()
    }
    for name in ("passwd", "group"):
        taken = {line.split(":")[2]: line.split(":")[0] for line in tables[name]}
        for account in accounts:
            if owner := taken.get(str(account.number)):
                raise LabError(f"{account.name} cannot have id {account.number}: in /etc/{name} it belongs to {owner}")
    for account in accounts:
        name, number = account.name, account.number
        tables["passwd"].append(f"{name}:x:{number}:{number}:OpenStack {name}:/var/lib/{name}:/usr/sbin/nologin")
        tables["group"].append(f"{name}:x:{number}:")
        tables["shadow"].append(f"{name}:!:19000::::::")
        tables["gshadow"].append(f"{name}:!::")
        for file in ("group", "gshadow"):
            tables[file] = [_joined(line, name, account.groups) for line in tables[file]]
    for name, lines in tables.items():
        status = sources[name].stat()
        _write(tree / "etc" / name, "\n".join(lines) + "\n", status.st_mode & 0o7777)
        files.set_owner(tree / "etc" / name, status.st_uid, status.st_gid)


def _joined(line: str, user: str, groups: tuple[str, ...]) -> str:
    """A line of group or gshadow, with the user added if it is one of the groups."""
    fields = line.split(":")
    if fields[0] in groups:
        fields[3] = ",".join([*filter(None, fields[3].split(",")), user])
    return ":".join(fields)


def _directories(tree: Path, account: Account) -> None:
    """Create directories: configuration readable by the group; data and logs writable by the account."""
    name, number = account.name, account.number
    for path, owner, mode in (
        (account.etc.lstrip("/") or f"etc/{name}", number if account.owns_etc else 0, 0o750),
        (f"var/lib/{name}", number, 0o755),
        (f"var/log/{name}", number, 0o750),
        *((f"var/lib/{name}/{d}", number, 0o755) for d in account.directories),
        *((d.lstrip("/"), number, 0o755) for d in account.also),
    ):
        place = tree / path
        files.make_directories(place)
        files.set_mode(place, mode)
        files.set_owner(place, owner, number)
