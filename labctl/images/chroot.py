"""Commands inside image layers during a build: an overlay with its own mount and process namespaces.

The kernel ends every process and removes every mount when the first process ends, and that one ends with labctl:
a build killed at any point leaves only files in its directory, which the store cleans up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.host import files, process
from labctl.host.overlay import escaped

#: Runs a command with its own mounts; its children are killed when it ends, as it is when labctl ends.
WITH_LABCTL = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")
SCRIPT = Path(__file__).with_name("chroot.sh")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


#: Package scripts ask no questions.
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true"}


@dataclass(frozen=True)
class Bind:
    """A file or directory of this machine, bound inside; read-only unless ``writable``."""

    source: Path
    target: str = ""  # the same path as outside
    writable: bool = False

    def words(self) -> tuple[str, str, str]:
        """Arguments for the script."""
        return ("rw" if self.writable else "ro", str(self.source), self.target or str(self.source))


@dataclass(frozen=True)
class Chroot:
    """Image layers, uppermost first; all writes go to ``upper``."""

    layers: Sequence[Path]
    #: an empty directory on the file system of the store
    directory: Path
    binds: tuple[Bind, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None

    @property
    def upper(self) -> Path:
        """The tree of changes."""
        return self.directory / "upper"

    def run(
        self,
        *command: str,
        timeout: float,
        check: bool = True,
        name: str = "",
        listener: process.Listener | None = None,
    ) -> str:
        """Run a command inside as root and return its output (empty when it goes to the log).

        :param timeout: seconds.
        :param name: its name in messages; by default the command without the prefix that enters the chroot.
        :param listener: gets each line before it is written to the log.
        :raises CommandError: status other than 0, unless ``check`` is off.
        """
        root, work = self.directory / "root", self.directory / "work"
        for path in (root, self.upper, work):
            files.make_directories(path)
        lower = ":".join(escaped(layer / "tree") for layer in self.layers)
        done = process.run(
            [
                *WITH_LABCTL,
                *("sh", SCRIPT, root, lower, self.upper.name, work.name),
                *(word for bind in self.binds for word in bind.words()),
                *("--", *command),
            ],
            timeout=timeout,
            cwd=self.directory,
            env={"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **QUIET, **self.env},
            log=self.log,
            check=check,
            name=name or process.shown(command),
            listener=listener,
        )
        return done.stdout or ""
