"""Debian packages from the machine's own mirror, kept in a cache outside the images.

apt downloads on the host with the host's sources, proxies and credentials, but with labctl's own lists and cache:
packages are downloaded once for all builds, interrupted downloads resume, and a build whose packages are cached
needs no network. Packages are installed into an image's tree by the tree's own apt, which uses these lists and
this cache.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from labctl.errors import DeadlineError, LabError
from labctl.host import files, lock, paths, process, proxy
from labctl.images import bulk, retry
from labctl.images.chroot import Bind, Chroot
from labctl.progress import Meter, note, warn

PARTS = Path("/etc/apt/sources.list.d")
SOURCES = (PARTS / "debian.sources", Path("/etc/apt/sources.list"))
#: Timeouts in seconds: for an index, for all downloads of a layer, without download progress, without data from a
#: mirror.
INDEX, DOWNLOAD, STALLED, SILENCE = 300, 7200, 120, 20
#: Seconds for the installation of a layer's packages.
INSTALL = 1800
#: apt's and dpkg's status lines (apt: doc/progress-reporting.md): kind, item, percent, description.
_STATUS = re.compile(r"^(dlstatus|pmstatus|pmerror|pmconffile):([^:]*(?::[a-z0-9]+)?):([\d.]+):(.*)$")
#: Errors that mean a stale index.
_STALE = re.compile(r"404 |Hash Sum mismatch|unexpected size")
#: Read after the host's configuration: keeps its proxies and credentials, overrides its hooks, pins and lists.
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
#: Where a tree's own apt sees the host's sources, and labctl's replacement commands, which come first.
_SHOWN, STUBS = "/run/labctl-apt", "/run/labctl-stubs"


def sources() -> Path:
    """The machine's apt sources: Debian's default files, else another file that names Debian's archive.

    :raises LabError: it has none.
    """
    others = [p for pattern in ("*.sources", "*.list") for p in sorted(PARTS.glob(pattern))]
    for path in (*SOURCES, *(p for p in others if re.search(r"^[^#\n]*/debian\b", p.read_text(), re.MULTILINE))):
        if path.exists() and path.read_text().strip():
            return path
    raise LabError(f"no apt sources found in {' or '.join(map(str, SOURCES))}: no mirror to install from")


#: Suites in sources: of deb822 files, which may go on in further lines, and of one-line files.
_SUITES = re.compile(r"^(Suites:)((?:.*)(?:\n[ \t].*)*)", re.MULTILINE)
_ONE_LINE = re.compile(r"^(deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?\S+\s+)(\S+)", re.MULTILINE)


def for_suite(text: str, suite: str) -> str:
    """Apt sources for another suite of the same mirror, with its updates and security updates.

    Backports and proposed updates are left out.
    """

    def renamed(found: re.Match[str]) -> str:
        name = re.fullmatch(r"[a-z]+(?:(-updates)|(-security|/updates)|-[a-z-]+)?", found[0])
        if name is None:  # a flat repository
            return found[0]
        return f"{suite}-updates" if name[1] else f"{suite}-security" if name[2] else suite

    def line(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"\S+", renamed, found[2])

    return _ONE_LINE.sub(line, _SUITES.sub(line, text))


class Status:
    """Follows apt's status lines: reports progress, and aborts a stalled download."""

    def __init__(self, stalled: float = STALLED) -> None:
        self._meter = Meter("image")
        self._stalled = stalled
        self._moved = time.monotonic()
        self._last: tuple[str, ...] = ()

    def line(self, text: str) -> bool:
        """Process a line of apt's output; True for a status line."""
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
        """Check for recent progress.

        :raises DeadlineError: there was none.
        """
        if time.monotonic() - self._moved > self._stalled:
            raise DeadlineError(f"the download stalled: no progress for {self._stalled:g} s")

    def downloading(self) -> process.Listener:
        """Listener for a command that downloads."""
        return process.Listener(self.line, self.tick)

    def installing(self) -> process.Listener:
        """Listener for a command that installs, where a package script may be silent for long."""
        return process.Listener(self.line)


_ARCHIVES: dict[tuple[str, str, str], Archive] = {}


class Archive:
    """The packages of one suite of the machine's mirror, as this build sees them.

    :param suite: the machine's own if empty.
    """

    def __init__(self, suite: str = "") -> None:
        self.directory = paths.cache() / "apt" / (suite or "own")
        self._updated = False
        self.sources = sources()
        if suite:
            wanted = for_suite(self.sources.read_text(), suite)
            self.sources = self.directory / self.sources.name
            files.make_directories(self.directory)
            if not (self.sources.exists() and self.sources.read_text() == wanted):
                files.write_atomic(self.sources, wanted)

    @property
    def archives(self) -> Path:
        """Completely downloaded packages."""
        return self.directory / "archives"

    @property
    def lists(self) -> Path:
        """The mirror's indexes."""
        return self.directory / "lists"

    @property
    def empty(self) -> Path:
        """dpkg's status file of a system without packages."""
        return self.directory / "state" / "status"

    def _configured(self) -> Path:
        """apt's configuration file for labctl's lists and cache, written if missing or outdated."""
        wanted = _CONFIGURATION.format(
            sources=self.sources, directory=self.directory, silence=SILENCE, architecture=ARCHITECTURE
        )
        if through := proxy.url():
            wanted += f'Acquire::http::Proxy "{through}";\nAcquire::https::Proxy "{through}";\n'
        configuration = self.directory / "apt.conf"
        if not (configuration.exists() and configuration.read_text() == wanted):
            for path in (self.archives / "partial", self.lists / "partial", self.empty.parent):
                files.make_directories(path)
            with self._alone():
                files.write_atomic(self.empty, "")
                files.write_atomic(configuration, wanted, 0o600)  # a proxy may have a password
        return configuration

    def _listed(self, *words: str) -> str:
        """The output of an apt-get query, which downloads nothing."""
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
        """Lock lists and cache against other labctl processes."""
        files.make_directories(self.directory)
        with files.appended(self.directory / ".lock", 0o644) as handle, lock.given_up(handle):
            lock.wait(handle, "downloads packages")
            yield

    def update(self, log: Path, *, anew: bool = False) -> None:
        """Read the mirror's index, once per build; if the mirror fails, use the cached index.

        :param anew: even if this build has already read it.
        :raises LabError: it cannot be read, and no index is cached.
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
            warn("image", f"{retry.first_line(error)}; using the cached index")
        self._updated = True

    @classmethod
    def here(cls, suite: str = "") -> Archive:
        """This process's archive of a suite, which reads the mirror's index once.

        :param suite: the machine's own if empty.
        """
        own = sources()
        if suite and for_suite(text := own.read_text(), suite) == text:
            suite = ""
        known = (str(paths.cache()), str(own), suite)
        if known not in _ARCHIVES:
            _ARCHIVES[known] = cls(suite)
        return _ARCHIVES[known]

    def mirror(self) -> str:
        """The mirror's name in the sources, for messages."""
        found = re.search(r"\b(?:https?|file|copy|ftp|mirror\+\w+|cdrom):\S+", self.sources.read_text())
        return found[0] if found else str(self.sources)

    def fetch(self, packages: Sequence[str], log: Path, status: Path | None = None) -> None:
        """Download packages and their dependencies into the cache.

        :param status: dpkg's status file of the system they are for; None for an empty system.
        :raises LabError: a package is unavailable; names it and the mirror.
        """
        self.update(log)
        # a copy: apt creates its locks beside the file, and a layer's tree must not change
        with files.temporary(place=self.empty.parent) as place:
            installed = place / "status"
            files.copy(status or self.empty, installed, 0o644)
            self._fetch(packages, installed, log)

    def _fetch(self, packages: Sequence[str], status: Path, log: Path) -> None:
        words = (f"-oDir::State::status={status}", "--download-only", "install", *packages)

        def fetch() -> None:
            uris = self._listed("-oAcquire::ForceHash=SHA256", "--print-uris", *words)
            if found := bulk.wanted(uris):
                with self._alone():
                    bulk.bring(found, self.archives, Meter("image"))
            if uris.strip():
                self._apt(log, *words, timeout=DOWNLOAD)

        try:
            retry.again(fetch, mend=lambda error: self._mend(error, log))
        except LabError as error:
            raise self._unavailable(error) from error

    def stage(self, directory: Path) -> None:
        """Snapshot packages and lists into a new directory, for a reader that runs while downloads continue."""
        for name, source in (("archives", self.archives), ("lists", self.lists)):
            files.make_directories(directory / name / "partial")
            for path in sorted(p for p in source.iterdir() if p.is_file() and p.name != "lock"):
                try:
                    files.name_again(path, directory / name / path.name)
                except OSError:  # on another file system
                    files.copy(path, directory / name / path.name)

    def _mend(self, error: LabError, log: Path) -> None:
        """Read the index again if it is stale."""
        if _STALE.search(error.message):
            note("image", "the mirror changed since its index was read: reading the index again")
            self.update(log, anew=True)

    def download(self, packages: Sequence[str], directory: Path, log: Path) -> list[Path]:
        """Download only these packages, without dependencies, into a new directory.

        :raises LabError: a package is unavailable; names it and the mirror.
        """
        self.update(log)
        files.new_directory(directory)

        def fetch() -> None:
            found = bulk.wanted(self._listed("-oAcquire::ForceHash=SHA256", "--print-uris", "download", *packages))
            absent = [f for f in found if not (self.archives / f.name).exists()]
            with self._alone():
                bulk.bring(absent, self.archives, Meter("image"))
            for file in found:
                if (kept := self.archives / file.name).exists():
                    files.copy(kept, directory / file.name, 0o644)
            if len(list(directory.glob("*.deb"))) < len(packages):
                self._apt(log, "download", *packages, timeout=DOWNLOAD, cwd=directory)

        try:
            retry.again(fetch, mend=lambda error: self._mend(error, log))
        except LabError as error:
            raise self._unavailable(error) from error
        return sorted(directory.glob("*.deb"))

    def _unavailable(self, error: LabError) -> LabError:
        hint = f"check that this machine reaches the mirror: apt-get update (sources: {self.sources})"
        return LabError(f"packages from {self.mirror()} are unavailable: {error.message}", error.hint or hint)

    def depends(self, packages: Sequence[str], log: Path) -> set[str]:
        """The direct dependencies of packages, without virtual packages.

        :raises LabError: the mirror does not have one of them.
        """
        self.update(log)
        command = ["apt-cache", f"-c={self._configured()}", "depends", *packages]
        try:
            said = process.run(command, name="apt-cache depends").stdout
        except process.CommandError as error:
            raise self._unavailable(error) from error
        return set(re.findall(r"Depends: ([a-z0-9][^\s<]*)", said))

    def install(self, inside: Chroot, packages: Sequence[str], *options: str) -> None:
        """Install cached packages into a tree; downloads nothing.

        Each retry first finishes what the failed installation left half-done.

        :raises LabError: a package script failed every time; names the package.
        """
        shown = f"{_SHOWN}/{self.sources.name}"
        system = Chroot(
            inside.layers,
            inside.directory,
            (
                *inside.binds,
                # apt first sets the owners of its directories
                Bind(self.archives, "/var/cache/apt/archives", writable=True),
                Bind(self.lists, "/var/lib/apt/lists", writable=True),
                Bind(self.sources, shown),
            ),
            inside.env,
            inside.log,
        )
        words = [
            # apt closes the descriptor of its status lines in its children, so it gets a separate one
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
