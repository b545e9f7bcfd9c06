"""What labctl puts into a Debian system: how daemons start and stop, what they inherit, who may enter."""

from __future__ import annotations

from pathlib import Path

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


def contents() -> list[tuple[str, str, int]]:
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


def write(tree: Path) -> None:
    """Write them all."""
    for name, text, mode in contents():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
