"""A release from PyPI: one virtual environment with all its projects.

The release pins the projects; the upper constraints it was tested with pin everything else. It is built inside the
system layer, so that compiled parts match the nodes' libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labctl.host import files
from labctl.images import dashboard, pip, retry, store, toolchain
from labctl.images.chroot import Bind, Chroot
from labctl.images.python import MODULES, Interpreter
from labctl.progress import step
from labctl.releases.model import PARTS, PackageSource, PyPI, Release

#: Increment when the steps below change the content of the layer.
RECIPE_VERSION = 4
#: Clients, and drivers named in the configuration that no project requires.
BESIDES = (
    "python-openstackclient",
    "python-heatclient",
    "python-swiftclient",
    "osc-placement",
    "PyMySQL",
    "python-memcached",
    "keystonemiddleware",
)
#: The same for releases that have telemetry.
TELEMETRY_BESIDES = ("gnocchiclient", "aodhclient", "ceilometermiddleware")
#: Packages that compiled parts are linked with; the rest of a system may change without rebuilding the projects.
LINKED = ("libc6", "libstdc++6", "liberasurecode1", "libffi8", "libssl3", "libssl3t64", "libvirt0", "libxml2", "zlib1g")


def constraints(text: str, minor: str, pinned: Iterable[str]) -> str:
    """The upper constraints of a release, for one interpreter and without projects that are already pinned.

    A project that is constrained only for other Python versions gets the constraint of the nearest older version:
    rocky's file names Django for 3.5, but only 3.6 is still available.

    :param text: the file as published by the release.
    :param pinned: requirements that already name a version.
    """

    ours = {canonicalize_name(r.name) for r in map(Requirement, pinned) if r.specifier}
    found: dict[str, list[tuple[str, Marker | None]]] = {}
    for line in text.splitlines():
        if "===" in line:
            limited = Requirement(line)
            (only,) = limited.specifier
            found.setdefault(limited.name, []).append((only.version, limited.marker))
    chosen = [
        f"{name}==={version}"
        for name, versions in found.items()
        if canonicalize_name(name) not in ours and (version := _for_python(versions, minor))
    ]
    return "\n".join(sorted(chosen, key=str.lower)) + "\n"


def _for_python(versions: Sequence[tuple[str, Marker | None]], minor: str) -> str:
    """The version for an interpreter, else for the nearest older one; empty if there is none."""
    major, _, number = minor.partition(".")
    for older in range(int(number), -1, -1):
        here = {"python_version": f"{major}.{older}"}
        fits = [(marker is None, version) for version, marker in versions if marker is None or marker.evaluate(here)]
        if fits:
            return min(fits)[1]
    return ""


def _parts(project: str) -> str:
    """The optional parts of a project, as a requirement names them."""
    return f"[{','.join(PARTS[project])}]" if project in PARTS else ""


def published_constraints(release: str) -> str:
    """The published upper constraints of a release, from labctl/releases/constraints."""
    return (resources.files("labctl.releases") / "constraints" / f"{release}.txt").read_text()


@dataclass(frozen=True)
class Environment:
    """A release's virtual environment: what it is built from, and how.

    :param system: the layers it will run on, uppermost first.
    :param runtime: the layer with its interpreter.
    :param packages: the system's packages and their versions.
    :param suite: the system's.
    """

    release: Release
    pypi: PyPI
    interpreter: Interpreter
    system: tuple[Path, ...]
    runtime: Path
    packages: Mapping[str, str]
    suite: str

    @property
    def libvirt(self) -> str:
        """Version of the system's libvirt, which its Python binding must match: 9.0.0 for 9.0.0-4+deb12u2."""
        return self.packages["libvirt0"].rpartition(":")[2].partition("-")[0]

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that compiled parts are linked with."""
        return {name: self.packages[name] for name in LINKED if name in self.packages}

    @property
    def requirements(self) -> tuple[str, ...]:
        """Requirements for pip."""
        return (
            *(f"{name}{_parts(name)}=={version}" for name, version in self.release.pins.items()),
            *self.pypi.extra,
            *BESIDES,
            *(TELEMETRY_BESIDES if self.release.has("ceilometer", PackageSource.PYPI) else ()),
            f"uWSGI=={self.pypi.uwsgi}",
            f"libvirt-python=={self.libvirt}",
        )

    @property
    def constraints(self) -> str:
        """Constraints for everything else."""
        return constraints(published_constraints(self.release.constraints), self.interpreter.minor, self.requirements)

    @property
    def recipe(self) -> store.Recipe:
        """The layer's recipe."""
        return store.Recipe(
            f"venv-{self.release.name}",
            {
                "version": RECIPE_VERSION,
                "libraries": self.libraries,
                "python": self.runtime.name,
                "toolchain": sorted(toolchain.PACKAGES),
                "requirements": sorted([*self.requirements, *self.pypi.tools]),
                **({"build": sorted(self.pypi.build)} if self.pypi.build else {}),
                "constraints": hashlib.sha256(self.constraints.encode()).hexdigest(),
                "dashboard": dashboard.settings(self.release) if self._has_dashboard else "",
            },
        )

    @property
    def _has_dashboard(self) -> bool:
        return dashboard.PROJECT in self.release.pins

    def ensure(self) -> Path:
        """Return the layer, building it if needed."""
        return store.ensure(self.recipe, self._build, over=(self.runtime, *self.system))

    def _build(self, work: Path) -> dict[str, Any]:
        place = self.release.environment
        made, given = work / "tree" / place.lstrip("/"), work / "requirements"
        for path in (made, given):
            files.make_directories(path)
        files.write_atomic(given / "requirements.txt", "".join(f"{r}\n" for r in self.requirements))
        files.write_atomic(given / "constraints.txt", self.constraints)
        files.write_atomic(given / "build.txt", "".join(f"{r}\n" for r in self.pypi.build))
        files.write_atomic(given / "local_settings.py", dashboard.settings(self.release))
        inside = Chroot(
            (toolchain.ensure(self.system, self.suite), self.runtime, *self.system),
            work / "build",
            (
                Bind(made, place, writable=True),
                Bind(given, "/requirements"),
                Bind(given / "local_settings.py", f"{dashboard.DIRECTORY}/local_settings.py"),
                *pip.binds(store.Recipe("wheels", self.libraries).name),
            ),
            pip.environment(),
            store.log_of(work),
        )
        python, install = f"{place}/bin/python", ("-m", "pip", "install", "--no-compile")
        with step("image", f"create the virtual environment with Python {self.interpreter.minor}"):
            inside.run(self.interpreter.program, "-c", f"import {', '.join(MODULES)}", timeout=300)
            inside.run(self.interpreter.program, "-m", "venv", place, timeout=600)
            retry.again(
                lambda: inside.run(python, *install, "--upgrade", *self.pypi.tools, timeout=1200, name="pip install")
            )
        with step("image", f"{self.release.title}: pip install {len(self.requirements)} projects and dependencies"):
            limited = ("-c", "/requirements/constraints.txt", "-r", "/requirements/requirements.txt")
            build = ("--build-constraint", "/requirements/build.txt") if self.pypi.build else ()
            words = (python, *install, "--progress-bar=off", *build, *limited)
            retry.again(lambda: inside.run(*words, timeout=3600, name="pip install", listener=pip.Told().listener))
        site = next(made.glob("lib/python*/site-packages"))
        with step("image", "remove tests, compile Python modules"):
            # horizon's URLs refer to its test suite
            without = [name for name in self.release.pins if name != dashboard.PROJECT]
            _leave_out_tests(site, without)
            # some projects ship Python 2 files, which do not compile and are never imported
            inside.run(python, "-m", "compileall", "-q", "-j", "0", f"{place}/lib", timeout=900, check=False)
        if self._has_dashboard:
            with step("image", "collect and compress the dashboard's static files"):
                dashboard.collect(inside, place, made)
        files.erase(inside.directory)
        return {"distributions": distributions(site)}


def _leave_out_tests(site: Path, projects: Iterable[str]) -> None:
    """Remove the projects' test suites, a third of their files; libraries keep theirs, since they may import them."""
    for project in projects:
        for listing in site.glob(f"{project.replace('-', '_')}-*.dist-info/top_level.txt"):
            suites = [site / package / name for package in listing.read_text().split() for name in ("test", "tests")]
            for suite in filter(Path.is_dir, suites):
                files.erase(suite)


def distributions(site: Path) -> dict[str, str]:
    """Name and version of every distribution in a site-packages directory."""
    found = [p.name.removesuffix(".dist-info").split("-", 1) for p in site.glob("*.dist-info")]
    return dict(sorted(found))
