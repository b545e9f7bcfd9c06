"""A machine for ``--host``: a real sshd on the loopback, with keys, a configuration and a labctl home of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl.host.ssh import new_key

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
#: Where this labctl is.
TOOLS = str(Path(sys.executable).parent)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Sshd:
    """The machine; ``home`` is that of labctl there, ``place`` has everything of it, ``variables`` are this side's."""

    place: Path
    port: int
    variables: dict[str, str]
    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def temporary(self) -> Path:
        return self.place / "tmp"

    def start(self, more: str = "", path: str = TOOLS) -> None:
        """Start sshd, with more lines of configuration, and another PATH of its commands."""
        (self.place / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.place}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.place}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
            f'SetEnv LABCTL_HOME="{self.home}" TMPDIR={self.temporary} '
            f"PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin\n{more}"
        )
        log = (self.place / "sshd.log").open("ab")
        assert SSHD is not None
        words = [SSHD, "-D", "-e", "-f", str(self.place / "sshd_config")]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.place / "sshd.log").read_text()
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("sshd does not listen")

    def sessions(self) -> list[int]:
        """The processes of sshd that hold connections."""
        assert self.process is not None
        said = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in said.stdout.split()]

    def stop(self) -> None:
        """End sshd and every connection."""
        if self.process is None:
            return
        for pid in self.sessions():
            with suppress(ProcessLookupError):  # it has ended since it was listed
                os.kill(pid, 9)
        self.process.kill()
        self.process.wait()
        self.process = None

    def known(self, key: str) -> None:
        """Pin a host key for this machine."""
        (self.place / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def begin(self, *words: str | Path, **options: object) -> subprocess.Popen[str]:
        """Start ``labctl --host URL WORDS`` here."""
        line = [sys.executable, "-m", "labctl", "--host", self.url, *map(str, words)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(line, env={**os.environ, **self.variables}, text=True, **streams)  # type: ignore[call-overload,no-any-return]

    def __call__(self, *words: str | Path, timeout: float = 120, **options: object) -> tuple[int, str, str]:
        """``labctl --host URL WORDS``: status, output, errors."""
        child = self.begin(*words, **options)
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise
        return child.returncode, out, err

    def left(self) -> list[str]:
        """What is left of commands there, once their directories had a moment to go."""
        deadline = time.monotonic() + 15
        while (found := sorted(str(p) for p in self.temporary.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def _variables(place: Path) -> Mapping[str, str]:
    config = place / "ssh_config"
    config.write_text(
        f"IdentityFile {place}/user\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {place}/known_hosts\n"
        "GlobalKnownHostsFile /dev/null\n"
    )
    return {"LABCTL_SSH": f"ssh -F {shlex.quote(str(config))}", "LABCTL_HOME": str(place / "home here")}


@contextmanager
def machine(place: Path, home: Path) -> Iterator[Sshd]:
    """The machine, whose sshd runs, with that labctl home."""
    if SSHD is None:
        pytest.skip("Debian's openssh-server is not installed: make setup")
    for name in ("host", "user"):
        pair = new_key(name)
        (place / name).write_text(pair.private)
        (place / name).chmod(0o600)
        (place / f"{name}.pub").write_text(f"{pair.public}\n")
    made = Sshd(place, free_port(), dict(_variables(place)), home)
    made.temporary.mkdir()
    made.known((place / "host.pub").read_text())
    separated = Path("/run/sshd")
    if os.geteuid() == 0:
        separated.mkdir(exist_ok=True)  # as sshd's own unit does; other tests may run one too
    made.start()
    try:
        yield made
    finally:
        made.stop()
