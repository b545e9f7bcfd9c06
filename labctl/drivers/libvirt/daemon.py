"""libvirtd on hosts without systemd: labctl starts it when a lab needs it and stops it with the last lab's machines.

It is the system's own libvirtd (qemu:///system, its sockets and directories), so ``virsh`` shows what labctl sees.
One that is already running is used and never stopped. The one that labctl started is recorded below /run with the
start time of its process, which detects a reused pid.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from labctl.errors import DeadlineError, LabError
from labctl.host import files, identity, process
from labctl.images import kvm
from labctl.progress import note

RUN = Path("/run/labctl")
SYSTEMD = Path("/run/systemd/system")
MODULAR = Path("/run/libvirt/virtqemud-sock")
#: Where libvirt's QEMU driver keeps the state of running machines.
STATE = Path("/run/libvirt/qemu")
#: Daemon -> socket. virtlogd holds the machines' consoles, so it must start first.
DAEMONS = {"virtlogd": Path("/run/libvirt/virtlogd-sock"), "libvirtd": Path("/run/libvirt/libvirt-sock")}
_SECONDS = 30
#: If there is a /dev/kvm that does not work, libvirtd gets its own /dev without it. Otherwise what its user may open
#: and what QEMU finds as root differ, and it probes QEMU's capabilities again at each start of a machine, which takes
#: a minute.
WITHOUT_KVM = """set -e
new=$1
shift
mkdir -p "$new"
mount -t tmpfs -o mode=755,nosuid labctl-dev "$new"
for entry in /dev/*; do
    case $entry in
    /dev/kvm) ;;
    /dev/pts | /dev/shm | /dev/mqueue) mkdir "$new/${entry#/dev/}" && mount --move "$entry" "$new/${entry#/dev/}" ;;
    *) cp -a "$entry" "$new/" ;;
    esac
done
umount --recursive --lazy /dev
mount --move "$new" /dev
exec "$@"
"""


def answers() -> bool:
    """True when a system libvirtd (or virtqemud) accepts connections."""
    return accepts(MODULAR) or accepts(DAEMONS["libvirtd"])


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def programs() -> list[str]:
    """Daemon programs that are not installed."""
    return [name for name in DAEMONS if program(name) is None]


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _open_lock(name: str) -> IO[str]:
    files.make_directories(RUN, 0o700)
    return files.continued(RUN / name)


def hold() -> IO[str]:
    """Keep the daemons that labctl started running, until the returned file is closed or this process ends."""
    handle = _open_lock("libvirtd.users")
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def ensure() -> None:
    """Start libvirtd if none answers.

    :raises LabError: it is not installed, or this host has systemd, which should start it.
    :raises DeadlineError: it does not answer.
    """
    if answers():
        return
    if SYSTEMD.is_dir():
        raise LabError("libvirtd is not running", "systemctl enable --now libvirtd.socket virtlogd.socket")
    if absent := programs():
        raise LabError(
            f"libvirt's {' and '.join(absent)} are not installed",
            "apt-get install --no-install-recommends libvirt-daemon-system libvirt-clients",
        )
    with _open_lock("libvirtd.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answers():
            return
        note("host", "starting libvirtd (no systemd on this host)")
        records = _records()
        for name, path in DAEMONS.items():
            if not accepts(path):
                records[name] = _start(name)
                files.write_atomic(RUN / "libvirtd.json", json.dumps(records))
    deadline = time.monotonic() + _SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise DeadlineError(f"libvirtd did not answer within {_SECONDS} s", "libvirtd -v shows why")
        time.sleep(0.1)


def _start(name: str) -> dict[str, Any]:
    pid_file = RUN / f"{name}.pid"
    files.erase(pid_file, within=RUN)
    command: list[str | Path] = [program(name) or name, "--daemon", "--pid-file", pid_file]
    if name == "libvirtd" and kvm.DEVICE.exists() and not kvm.examine().works:
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            WITHOUT_KVM,
            "sh",
            RUN / "dev",
            *command,
        ]
    done = process.run(command, check=False, outlives=True)
    deadline = time.monotonic() + _SECONDS
    while done.returncode == 0 and time.monotonic() < deadline:
        if pid_file.exists() and (text := pid_file.read_text().strip()):
            return {"pid": int(text), "started": identity.start_time(int(text))}
        time.sleep(0.05)
    raise LabError(f"{name} failed to start: {done.stderr.strip()[-300:]}", f"{name} --verbose shows why")


def _records() -> dict[str, dict[str, Any]]:
    """Daemon -> record, of running daemons that labctl started."""
    try:
        records = json.loads((RUN / "libvirtd.json").read_text())
        return {
            name: record for name, record in records.items() if identity.start_time(record["pid"]) == record["started"]
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def started_here() -> dict[str, int]:
    """Daemon -> pid, of running daemons that labctl started."""
    return {name: int(record["pid"]) for name, record in _records().items()}


def end(idle: Callable[[], bool], seconds: float = 10) -> list[str]:
    """Stop the daemons that labctl started, libvirtd first, unless they are in use; returns those that did not end.

    :param idle: whether there are no machines; called while no other labctl can start one.
    :param seconds: how long to wait for other labctl processes that use the daemons.
    """
    deadline = time.monotonic() + seconds
    with _open_lock("libvirtd.users") as users:
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return []  # the other processes will stop them
                time.sleep(0.1)
        if not idle():
            return []
        mine = started_here()
        left = [f"process {mine[n]} ({n})" for n in reversed(DAEMONS) if n in mine and not _end(mine[n])]
        if not left:
            for path in RUN.glob("*"):
                if path.suffix in (".json", ".pid"):
                    files.erase(path, within=RUN)
    return left


def _end(pid: int) -> bool:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + 10
        while identity.start_time(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not identity.start_time(pid):
            return True
    return False
