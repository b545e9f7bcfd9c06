"""labctl's files in a Debian system: how daemons start and stop, their environment, SSH access."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl.bases.model import START_SECONDS
from labctl.host import files

SSHD = """# Made by labctl: keys only, one host key, no waiting for names
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
"""
JOURNALD = "[Journal]\nStorage=persistent\nSystemMaxUse=256M\nRateLimitIntervalSec=0\n"
#: Manager's settings of systemd; the environment is the base's.
SYSTEM = f"[Manager]\nDefaultTimeoutStartSec={START_SECONDS}\nDefaultTimeoutStopSec=20\nDefaultEnvironment={{}}\n"
#: Seconds for a daemon to stop. OpenStack's daemons keep their state in the database, but some wait for responses
#: from others that are already gone.
STOP = "[Service]\nTimeoutStopSec=3\n"
STOPPED = ("cinder", "glance", "heat", "neutron", "nova", "openstack", "placement", "swift")
#: Services that everything else waits for at boot get priority. RabbitMQ stops just as cleanly on a signal, without
#: starting a second Erlang VM.
FIRST = "[Service]\nNice=-10\n"
RABBITMQ = FIRST + "ExecStop=\n"


def contents(environment: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Path, content and mode of labctl's files in the tree.

    :param environment: of daemons, of sessions, which create the database tables, and of what agents start by sudo.
    """
    set_ = [f"{name}={value}" for name, value in environment.items()]
    kept = "".join(f'Defaults env_keep += "{name}"\n' for name in environment)
    return [
        ("etc/ssh/sshd_config.d/labctl.conf", SSHD, 0o644),
        ("etc/systemd/journald.conf.d/labctl.conf", JOURNALD, 0o644),
        ("etc/systemd/system.conf.d/labctl.conf", SYSTEM.format(" ".join(set_)), 0o644),
        ("etc/environment", "".join(f"{line}\n" for line in set_), 0o644),
        ("etc/sudoers.d/labctl", kept, 0o440),
        # a drop-in directory whose name ends in a hyphen applies to all units with that prefix (systemd.unit(5))
        *((f"etc/systemd/system/{name}-.service.d/labctl.conf", STOP, 0o644) for name in STOPPED),
        *((f"etc/systemd/system/{name}.service.d/labctl.conf", STOP, 0o644) for name in ("keystone", "apache2")),
        ("etc/systemd/system/mariadb.service.d/labctl.conf", FIRST, 0o644),
        ("etc/systemd/system/rabbitmq-server.service.d/labctl.conf", RABBITMQ, 0o644),
    ]


def write(tree: Path, environment: Mapping[str, str]) -> None:
    """Write all files."""
    for name, text, mode in contents(environment):
        path = tree / name
        files.make_directories(path.parent, 0o755, within=tree)
        files.write_atomic(path, text, mode, within=tree)
