"""The golden tree of a Debian base: mmdebstrap from the machine's own mirror, packages once.

No OpenStack daemon starts in it: every unit is disabled until a lab has configured it, since a tree in
which everything is enabled keeps two cores busy with services that fail and restart (docs/platform.md).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labctl import process
from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.images import store
from labctl.images.chroot import WITH_LABCTL
from labctl.progress import step

#: Raise when the steps below change what is in the tree.
RECIPE_VERSION = 1
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
#: Left out of the tree. libvirt starts every emulator it finds to learn what it can do, which costs
#: 20 s of nova-compute's first start for 30 foreign processors.
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/bin/qemu-system-*",
)
INCLUDED = ("/usr/bin/qemu-system-x86_64",)

SSHD = """# Made by labctl: keys only, one host key, no waiting for names
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
"""
JOURNALD = "[Journal]\nStorage=persistent\nSystemMaxUse=256M\nRateLimitIntervalSec=0\n"
#: What costs most when forty Python daemons start on two cores, each 0.5 s of processor time: eventlet imports
#: distutils, in whose place setuptools puts its own, which reads the metadata of 400 packages; and a resolver of
#: its own, which nova switches off by itself (nova/monkey_patch.py) and a lab's hosts files do not need.
ENVIRONMENT = {"SETUPTOOLS_USE_DISTUTILS": "stdlib", "EVENTLET_NO_GREENDNS": "yes"}
SYSTEM = "[Manager]\nDefaultTimeoutStartSec=300\nDefaultTimeoutStopSec=20\nDefaultEnvironment={}\n".format(
    " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
)
#: Also in sessions, where tables are made, and through sudo, by which agents start what needs root.
SESSIONS = "".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items())
SUDO = "".join(f'Defaults env_keep += "{name}"\n' for name in ENVIRONMENT)
#: Seconds for a daemon that was asked to stop. All that OpenStack's daemons know is in the database, but some
#: wait for the answers of others that have gone already.
STOP = "[Service]\nTimeoutStopSec=3\n"
STOPPED = ("cinder", "glance", "heat", "neutron", "nova", "openstack", "placement", "swift")
#: What everything else waits for when a machine starts comes before it; and RabbitMQ ends in the same orderly way
#: when it is told by a signal, without a second Erlang to tell it.
FIRST = "[Service]\nNice=-10\n"
RABBITMQ = FIRST + "ExecStop=\n"


def packages(base: Base) -> tuple[str, ...]:
    """Every package of every component: one tree serves all nodes of all labs of the base."""
    names = [*base.common_packages]
    for group in (*base.packages.values(), *base.l2_packages.values()):
        names += group
    return tuple(dict.fromkeys(names))


def _files() -> list[tuple[str, str, int]]:
    """Path, content and mode of what labctl puts into the tree."""
    return [
        ("etc/ssh/sshd_config.d/labctl.conf", SSHD, 0o644),
        ("etc/systemd/journald.conf.d/labctl.conf", JOURNALD, 0o644),
        ("etc/systemd/system.conf.d/labctl.conf", SYSTEM, 0o644),
        ("etc/environment", SESSIONS, 0o644),
        ("etc/sudoers.d/labctl", SUDO, 0o440),
        # a directory with a hyphen at its end is for all units that begin so (systemd.unit(5))
        *((f"etc/systemd/system/{name}-.service.d/labctl.conf", STOP, 0o644) for name in STOPPED),
        *((f"etc/systemd/system/{name}.service.d/labctl.conf", STOP, 0o644) for name in ("keystone", "apache2")),
        ("etc/systemd/system/mariadb.service.d/labctl.conf", FIRST, 0o644),
        ("etc/systemd/system/rabbitmq-server.service.d/labctl.conf", RABBITMQ, 0o644),
    ]


def recipe(base: Base) -> store.Recipe:
    """What the tree is made from."""
    return store.Recipe(
        f"{base.name}-{base.source}",
        {
            "version": RECIPE_VERSION,
            "suite": base.suite,
            "packages": sorted(packages(base)),
            "disabled": sorted(base.openstack_units),
            "masked": sorted(base.unwanted_units),
            "paths": [EXCLUDED, INCLUDED],
            "files": sorted((name, text, oct(mode)) for name, text, mode in _files()),
        },
    )


def apt_sources() -> Path:
    """The machine's own apt sources.

    :raises LabError: when it has none.
    """
    for path in SOURCES:
        if path.exists() and path.read_text().strip():
            return path
    raise LabError(f"no apt sources found in {' or '.join(map(str, SOURCES))}: no mirror to install from")


def ensure(base: Base) -> Path:
    """Return the layer with a base's packages, building it when needed."""
    return store.ensure(recipe(base), lambda work: _build(base, work))


def _build(base: Base, work: Path) -> dict[str, Any]:
    free = shutil.disk_usage(work).free
    if free < 6 * 2**30:
        raise LabError(f"{work.parent} has {free / 2**30:.1f} GiB free; building an image needs 6 GiB")
    tree = work / "tree"
    log = work / "build.log"
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    options += [f"--dpkgopt=path-include={pattern}" for pattern in INCLUDED]
    with step("image", f"{base.title}: install {len(packages(base))} packages and what they need"):
        process.run(
            [
                *WITH_LABCTL,
                "--mount-proc",
                "mmdebstrap",
                "--variant=apt",
                "--skip=check/qemu",
                '--aptopt=Apt::Install-Recommends "false"',
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=Acquire::Check-Valid-Until "false"',
                "--dpkgopt=force-unsafe-io",
                *options,
                f"--include={','.join(packages(base))}",
                base.suite,
                tree,
                apt_sources(),
            ],
            timeout=1800,
            log=log,
        )
    with step("image", "disable services, remove identities"):
        _disable(base, tree)
        _anonymise(tree)
        _configure(tree)
    listing = process.output(["chroot", str(tree), "dpkg-query", "-W", "-f", "${Package} ${Version}\\n"])
    return {"packages": dict(line.split(" ", 1) for line in listing.splitlines())}


def _disable(base: Base, tree: Path) -> None:
    process.run(["systemctl", f"--root={tree}", "disable", *_existing(tree, base.openstack_units)], timeout=120)
    process.run(["systemctl", f"--root={tree}", "mask", *base.unwanted_units], timeout=60)
    for name in ("rc0.d", "rc1.d", "rc2.d", "rc3.d", "rc4.d", "rc5.d", "rc6.d", "rcS.d"):
        for link in (tree / "etc" / name).glob("[SK]*"):
            link.unlink()


def _existing(tree: Path, units: tuple[str, ...]) -> list[str]:
    names = []
    for unit in units:
        name = f"{unit}.service"
        if any((tree / p / name).exists() for p in ("lib/systemd/system", "usr/lib/systemd/system")):
            names.append(name)
    return names


def _anonymise(tree: Path) -> None:
    """Remove what must differ between machines: keys, ids, cookies."""
    for path in (tree / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for name in (
        "var/lib/rabbitmq/.erlang.cookie",
        "var/lib/dbus/machine-id",
        "etc/hostname",
        "etc/resolv.conf",
    ):
        (tree / name).unlink(missing_ok=True)
    (tree / "etc/machine-id").write_text("")


def _configure(tree: Path) -> None:
    for name, text, mode in _files():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
