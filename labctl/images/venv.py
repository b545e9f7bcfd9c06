"""A release from the Python Package Index: one virtual environment with all its projects.

The projects are pinned by the release, everything else by the upper constraints that the release was
tested with. Built inside the system layer, so that what is compiled fits the libraries of the nodes.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labctl.errors import LabError
from labctl.images import pip, store, toolchain
from labctl.images.chroot import Bind, Chroot
from labctl.images.python import MODULES, Interpreter
from labctl.progress import step
from labctl.releases.model import PyPI, Release

#: Raise when the steps below change what is in the layer.
RECIPE_VERSION = 1
#: Clients, and drivers that the configuration names but no project requires.
BESIDES = (
    "python-openstackclient",
    "python-heatclient",
    "python-swiftclient",
    "osc-placement",
    "PyMySQL",
    "python-memcached",
    "keystonemiddleware",
    "uWSGI==2.0.21",
)
#: setuptools 58 dropped 2to3, which packages of these years run when they are built.
TOOLS = ("pip>=21.3,<25", "setuptools<58", "wheel<0.44")
_CONSTRAINT = re.compile(r"^(?P<name>[\w.-]+)===(?P<version>[^;\s]+)(?:;python_version=='(?P<minor>[\d.]+)')?$")


def home(release: str) -> str:
    """Where a release lies in a node."""
    return f"/opt/openstack/{release}"


def requirements(pypi: PyPI, libvirt: str) -> tuple[str, ...]:
    """What pip installs.

    :param libvirt: version of the system's libvirt, which its Python binding must match.
    """
    return (*pypi.projects.values(), *pypi.extra, *BESIDES, f"libvirt-python=={libvirt}")


def constraints(text: str, minor: str, pinned: Iterable[str]) -> str:
    """The upper constraints of a release, for one interpreter and without what is pinned already.

    A project that is constrained for other versions of Python only gets the constraint of the nearest
    older one: rocky's file names Django for 3.5, and 3.6 is what can still be had.

    :param text: the file, as the release published it.
    :param pinned: requirements that name a version of their own.
    """

    def order(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    ours = {canonicalize_name(r.name) for r in map(Requirement, pinned) if r.specifier}
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _CONSTRAINT.match(line.strip()):
            found.setdefault(match["name"], {})[match["minor"] or ""] = match["version"]
    chosen = []
    for name, versions in found.items():
        if canonicalize_name(name) in ours:
            continue
        older = [v for v in versions if v.startswith("3.") and order(v) <= order(minor)]
        if "" in versions or older:
            chosen.append(f"{name}==={versions.get(minor) or versions.get('') or versions[max(older, key=order)]}")
    return "\n".join(sorted(chosen, key=str.lower)) + "\n"


def published_constraints(release: str) -> str:
    """The upper constraints that a release published, as kept in labctl/releases/constraints."""
    return (resources.files("labctl.releases") / "constraints" / f"{release}.txt").read_text()


def recipe(release: Release, pypi: PyPI, system: Path, runtime: Path, minor: str, libvirt: str) -> store.Recipe:
    """What the layer is made from."""
    wanted = requirements(pypi, libvirt)
    limits = constraints(published_constraints(release.name), minor, wanted)
    return store.Recipe(
        f"venv-{release.name}",
        {
            "version": RECIPE_VERSION,
            "system": system.name,
            "python": runtime.name,
            "toolchain": sorted(toolchain.PACKAGES),
            "requirements": sorted([*wanted, *TOOLS]),
            "constraints": hashlib.sha256(limits.encode()).hexdigest(),
        },
    )


def ensure(release: Release, system: Path, runtime: Path, found: Interpreter, libvirt: str) -> Path:
    """Return the layer with a release's virtual environment, building it when needed.

    :param system: the layer it will run on.
    :param runtime: the layer with its interpreter.
    """
    pypi = release.pypi
    if pypi is None:
        raise LabError(f"labctl does not know the projects of {release.title} on the Python Package Index")
    wanted = requirements(pypi, libvirt)
    limits = constraints(published_constraints(release.name), found.minor, wanted)

    def build(work: Path) -> dict[str, Any]:
        return _build(release, work, (toolchain.ensure(system), runtime, system), found, wanted, limits)

    return store.ensure(recipe(release, pypi, system, runtime, found.minor, libvirt), build)


def _build(
    release: Release, work: Path, layers: tuple[Path, ...], found: Interpreter, wanted: tuple[str, ...], limits: str
) -> dict[str, Any]:
    place = home(release.name)
    made = work / "tree" / place.lstrip("/")
    made.mkdir(parents=True)
    files = work / "requirements"
    files.mkdir()
    (files / "requirements.txt").write_text("".join(f"{r}\n" for r in wanted))
    (files / "constraints.txt").write_text(limits)
    inside = Chroot(
        layers,
        work / "build",
        (Bind(made, place, writable=True), Bind(files, "/requirements"), *pip.binds(layers[-1].name)),
        pip.environment(),
        work / "build.log",
    )
    python, install = f"{place}/bin/python", ("-m", "pip", "install", "--no-compile")
    with step("image", f"Python {found.minor} in the node's system"):
        inside.run(found.program, "-c", f"import {', '.join(MODULES)}", timeout=60)
        inside.run(found.program, "-m", "venv", place, timeout=120)
        inside.run(python, *install, "--upgrade", *TOOLS, timeout=600)
    with step("image", f"{release.title}: pip installs {len(wanted)} projects and what they need"):
        arguments = ("-c", "/requirements/constraints.txt", "-r", "/requirements/requirements.txt")
        inside.run(python, *install, *arguments, timeout=3600)
    with step("image", "leave out tests, compile"):
        site = next(made.glob("lib/python*/site-packages"))
        _leave_out_tests(site)
        # files for Python 2 that some projects ship do not compile, and nobody imports them
        inside.run(python, "-m", "compileall", "-q", "-j", "0", f"{place}/lib", timeout=900, check=False)
    shutil.rmtree(inside.directory)
    return {"distributions": distributions(site)}


def _leave_out_tests(site: Path) -> None:
    """Remove the projects' own test suites, a quarter of their files."""
    for tests in [p for name in ("tests", "test") for p in site.glob(f"*/{name}") if p.is_dir()]:
        shutil.rmtree(tests)


def distributions(site: Path) -> dict[str, str]:
    """Name and version of every distribution in a site-packages directory."""
    return dict(sorted(p.name.removesuffix(".dist-info").split("-", 1) for p in site.glob("*.dist-info")))
