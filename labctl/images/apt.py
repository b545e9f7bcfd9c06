"""Debian's packages from the machine's own mirror, kept in a cache outside the images that are made of them.

Downloads are apt's, run on the host with the host's own sources, proxies and credentials, but with lists and a
cache of labctl's: what was downloaded once is there for every later build, a broken download goes on where it
ended, and a build that has its packages needs no network. What is installed lies in an image's tree, whose own
apt is shown the lists and the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from labctl.errors import DeadlineError, LabError
from labctl.host import lock, paths, process
from labctl.host.files import write_atomic
from labctl.images import bulk, retry
from labctl.images.chroot import Bind, Chroot
from labctl.progress import Meter, note, warn

PARTS = Path("/etc/apt/sources.list.d")
SOURCES = (PARTS / "debian.sources", Path("/etc/apt/sources.list"))
#: Seconds: for an index, for all downloads of a layer, without any progress of a download, of silence of a mirror.
INDEX, DOWNLOAD, STALLED, SILENCE = 300, 7200, 120, 20
#: Seconds for the installation of a layer's packages.
INSTALL = 1800
#: Of apt's and dpkg's own status lines (apt: doc/progress-reporting.md): kind, what, per cent, words for people.
_STATUS = re.compile(r"^(dlstatus|pmstatus|pmerror|pmconffile):([^:]*(?::[a-z0-9]+)?):([\d.]+):(.*)$")
#: What says that the mirror has moved on since the index was read.
_STALE = re.compile(r"404 |Hash Sum mismatch|unexpected size")
#: Read after the host's own configuration: its proxies and credentials hold, its hooks, pins and lists do not.
_CONFIGURATION = """\
#clear APT::Update;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::Languages;
#clear APT::Architectures;
Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{directory}/state";
Dir::State::lists "{directory}/lists";
Dir::Cache "{directory}";
Dir::Cache::archives "{directory}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages {{ "none"; }};
Acquire::Check-Valid-Until "false";
Acquire::Retries "2";
Acquire::http::Timeout "{silence}";
Acquire::https::Timeout "{silence}";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
"""
ARCHITECTURE = "amd64"
#: Where a tree's own apt is shown the host's sources, and where it has its commands: labctl's come first.
_SHOWN, STUBS = "/run/labctl-apt", "/run/labctl-stubs"


def sources() -> Path:
    """The machine's own apt sources: Debian's usual files, else another one that names Debian's archive.

    :raises LabError: when it has none.
    """
    others = [p for pattern in ("*.sources", "*.list") for p in sorted(PARTS.glob(pattern))]
    for path in (*SOURCES, *(p for p in others if re.search(r"^[^#\n]*/debian\b", p.read_text(), re.MULTILINE))):
        if path.exists() and path.read_text().strip():
            return path
    raise LabError(f"no apt sources found in {' or '.join(map(str, SOURCES))}: no mirror to install from")


class Status:
    """Follows apt's status lines: tells how far it is, and ends a download that does not move."""

    def __init__(self, stalled: float = STALLED) -> None:
        self._meter = Meter("image")
        self._stalled = stalled
        self._moved = time.monotonic()
        self._last: tuple[str, ...] = ()

    def line(self, text: str) -> bool:
        """Take a line of apt's output; True when it is one of status."""
        found = _STATUS.match(text)
        if found is None:
            return False
        kind, what, percent, words = found.groups()
        if (kind, what, percent) != self._last:
            self._last, self._moved = (kind, what, percent), time.monotonic()
        if kind != "dlstatus" or "Retrieving" in words:
            self._meter(re.sub(r" \(.*remaining\)", "", words), min(float(percent) / 100, 1.0))
        return kind != "pmerror"

    def tick(self) -> None:
        """Look whether anything moved lately.

        :raises DeadlineError: nothing did.
        """
        if time.monotonic() - self._moved > self._stalled:
            raise DeadlineError(f"the download has not moved for {self._stalled:g} s")

    def downloading(self) -> process.Listener:
        """For a command that downloads."""
        return process.Listener(self.line, self.tick)

    def installing(self) -> process.Listener:
        """For a command that installs, where a package's script may be silent for long."""
        return process.Listener(self.line)


_ARCHIVES: dict[tuple[str, str], Archive] = {}


class Archive:
    """The packages of the machine's own mirror, as this build sees them."""

    def __init__(self) -> None:
        self.sources = sources()
        self.directory = paths.cache() / "apt"
        self._updated = False

    @property
    def archives(self) -> Path:
        """Where packages lie once they are whole."""
        return self.directory / "archives"

    @property
    def lists(self) -> Path:
        """The mirror's indexes."""
        return self.directory / "lists"

    @property
    def empty(self) -> Path:
        """The status of a system without a single package."""
        return self.directory / "state" / "status"

    def _configured(self) -> Path:
        """Apt's configuration for labctl's own lists and cache, as a file that says what it must say."""
        wanted = _CONFIGURATION.format(
            sources=self.sources, directory=self.directory, silence=SILENCE, architecture=ARCHITECTURE
        )
        configuration = self.directory / "apt.conf"
        if not (configuration.exists() and configuration.read_text() == wanted):
            for path in (self.archives / "partial", self.lists / "partial", self.empty.parent):
                path.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self.empty.touch()
                write_atomic(configuration, wanted)
        return configuration

    def _listed(self, *words: str) -> str:
        """What a query of apt-get prints; it downloads nothing."""
        command = ["apt-get", "-qq", f"-c={self._configured()}", *words]
        return process.run(command, timeout=INDEX, name="apt-get").stdout

    def _apt(self, log: Path, *words: str, timeout: float, cwd: Path | None = None, name: str = "apt-get") -> None:
        command = ["apt-get", "-q", f"-c={self._configured()}", "-oAPT::Status-Fd=1", *words]
        with self._alone():
            process.run(
                command,
                timeout=timeout,
                log=log,
                cwd=cwd,
                name=name,
                listener=Status().downloading(),
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep another labctl's apt out of lists and cache meanwhile."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as handle:
            lock.wait(handle, "downloads packages")
            yield

    def update(self, log: Path, *, anew: bool = False) -> None:
        """Read the mirror's index, once a build; without the mirror, go on with the index that is there.

        :param anew: also when this build has read it before.
        :raises LabError: it cannot be had, and there is none.
        """
        if self._updated and not anew:
            return
        try:
            retry.again(
                lambda: self._apt(
                    log,
                    "-oAPT::Update::Error-Mode=any",
                    "-oAcquire::Retries=0",
                    "update",
                    timeout=INDEX,
                    name="apt-get update",
                )
            )
        except LabError as error:
            if not any(self.lists.glob("*_Packages*")):
                raise LabError(f"the index of {self.mirror()} cannot be read: {error.message}", error.hint) from error
            warn("image", f"{retry.first_line(error)}; going on with the index that was read before")
        self._updated = True

    @classmethod
    def here(cls) -> Archive:
        """The archive of this process, which reads the mirror's index once."""
        known = (str(paths.cache()), str(sources()))
        if known not in _ARCHIVES:
            _ARCHIVES[known] = cls()
        return _ARCHIVES[known]

    def mirror(self) -> str:
        """The mirror as the sources name it, for messages."""
        found = re.search(r"\b(?:https?|file|copy|ftp|mirror\+\w+|cdrom):\S+", self.sources.read_text())
        return found[0] if found else str(self.sources)

    def fetch(self, packages: Sequence[str], log: Path, status: Path | None = None) -> None:
        """Have packages, and what they need besides, in the cache.

        :param status: of the system that they are for: dpkg's list of what is installed there; none for an empty one.
        :raises LabError: one cannot be had; names it and the mirror.
        """
        self.update(log)
        # a copy: apt makes its locks beside the file, and a layer's tree is not to be touched
        with tempfile.TemporaryDirectory(dir=self.empty.parent) as place:
            installed = Path(place) / "status"
            shutil.copyfile(status or self.empty, installed)
            self._fetch(packages, installed, log)

    def _fetch(self, packages: Sequence[str], status: Path, log: Path) -> None:
        words = (f"-oDir::State::status={status}", "--download-only", "install", *packages)

        def fetch() -> None:
            uris = self._listed("-oAcquire::ForceHash=SHA256", "--print-uris", *words)
            if files := bulk.wanted(uris):
                with self._alone():
                    bulk.bring(files, self.archives, Meter("image"))
            if uris.strip():
                self._apt(log, *words, timeout=DOWNLOAD)

        try:
            retry.again(fetch, mend=lambda error: self._mend(error, log))
        except LabError as error:
            raise self._unavailable(error) from error

    def stage(self, directory: Path) -> None:
        """Lay out packages and lists as they are now in a new directory, for who reads them while more come."""
        for name, source in (("archives", self.archives), ("lists", self.lists)):
            (directory / name / "partial").mkdir(parents=True)
            for path in sorted(p for p in source.iterdir() if p.is_file() and p.name != "lock"):
                try:
                    os.link(path, directory / name / path.name)
                except OSError:  # on another file system
                    shutil.copy2(path, directory / name / path.name)

    def _mend(self, error: LabError, log: Path) -> None:
        """Read the index anew where the mirror no longer has what it named."""
        if _STALE.search(error.message):
            note("image", "the mirror has changed since its index was read: reading it again")
            self.update(log, anew=True)

    def download(self, packages: Sequence[str], directory: Path, log: Path) -> list[Path]:
        """Bring just these packages, without what they need, into a new directory.

        :raises LabError: one cannot be had; names it and the mirror.
        """
        self.update(log)
        directory.mkdir()

        def fetch() -> None:
            files = bulk.wanted(self._listed("-oAcquire::ForceHash=SHA256", "--print-uris", "download", *packages))
            absent = [f for f in files if not (self.archives / f.name).exists()]
            with self._alone():
                bulk.bring(absent, self.archives, Meter("image"))
            for file in files:
                if (kept := self.archives / file.name).exists():
                    shutil.copyfile(kept, directory / file.name)
            if len(list(directory.glob("*.deb"))) < len(packages):
                self._apt(log, "download", *packages, timeout=DOWNLOAD, cwd=directory)

        try:
            retry.again(fetch, mend=lambda error: self._mend(error, log))
        except LabError as error:
            raise self._unavailable(error) from error
        return sorted(directory.glob("*.deb"))

    def _unavailable(self, error: LabError) -> LabError:
        hint = f"see whether this machine reaches it: apt-get update (sources: {self.sources})"
        return LabError(f"packages from {self.mirror()} cannot be had: {error.message}", error.hint or hint)

    def depends(self, packages: Sequence[str], log: Path) -> set[str]:
        """The direct dependencies of packages, virtual ones left out.

        :raises LabError: the mirror does not know one of them.
        """
        self.update(log)
        command = ["apt-cache", f"-c={self._configured()}", "depends", *packages]
        try:
            said = process.run(command, name="apt-cache depends").stdout
        except process.CommandError as error:
            raise self._unavailable(error) from error
        return set(re.findall(r"Depends: ([a-z0-9][^\s<]*)", said))

    def install(self, inside: Chroot, packages: Sequence[str], *options: str) -> None:
        """Install packages of the cache into a tree; nothing is downloaded.

        What a killed or failed installation has left half done is finished first, in each repetition.

        :raises LabError: a package's script fails each time; names the package.
        """
        shown = f"{_SHOWN}/{self.sources.name}"
        system = Chroot(
            inside.layers,
            inside.directory,
            (
                *inside.binds,
                # apt sees to the owners of its directories before anything else
                Bind(self.archives, "/var/cache/apt/archives", writable=True),
                Bind(self.lists, "/var/lib/apt/lists", writable=True),
                Bind(self.sources, shown),
            ),
            inside.env,
            inside.log,
        )
        words = [
            # apt closes the descriptor of its status lines to what it starts, so it gets one of its own
            *("sh", "-c", 'exec "$@" 3>&1', "sh"),
            "apt-get",
            "-q",
            "-y",
            f"-oDir::Etc::sourcelist={shown}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Cache::pkgcache=",
            "-oDir::Cache::srcpkgcache=",
            "-oDebug::NoLocking=true",
            f"-oDPkg::Path={STUBS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "-oDpkg::Options::=--force-unsafe-io",
            "-oDpkg::Options::=--force-confold",
            "-oDpkg::Use-Pty=0",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Status-Fd=3",
            "--no-install-recommends",
            "--no-download",
            *options,
            "install",
            *packages,
        ]

        def install() -> None:
            system.run(*words, timeout=INSTALL, listener=Status().installing(), name="apt-get install")

        def finish(error: LabError) -> None:
            system.run("dpkg", "--configure", "--pending", "--force-confold", timeout=INSTALL, check=False)

        retry.again(install, mend=finish)
