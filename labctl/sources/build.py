"""The layer of a project's own tree: its modules, compiled; what an installation has besides; nothing that it requires.

Two images: the parts (metadata with entry points, commands, files for /etc, modules that the build writes), made by
pip from the project's whole tree, anew only when what describes the project has changed; and the layer, which has the
tree's modules over them. An edit of a module costs a copy and the compilation of what was edited.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labctl.errors import RefusedError
from labctl.host import files, paths
from labctl.images import golden, pip, store
from labctl.images.chroot import Bind, Chroot
from labctl.progress import step
from labctl.releases.model import DISTRIBUTIONS, PackageSource, same_series
from labctl.services.base import Context
from labctl.sources.given import Given
from labctl.sources.tree import Taken, take
from labctl.topology.spec import LabSpec, SourceSpec

#: Increment when the steps below change the content of a layer.
RECIPE_VERSION = 1
#: Of a tree, what its build reads besides the modules.
DESCRIBES = ("setup.cfg", "setup.py", "pyproject.toml", "requirements.txt", "MANIFEST.in", "etc")
#: Beginnings of directories whose modules change tables.
SCHEMA = ("migrat", "alembic")
#: Time of every module, in seconds: a compiled one belongs to the module's time and size, and trees differ by content.
TIME = 1_500_000_000
#: Seconds for pip, and for the compilation of a project.
BUILD, COMPILE = 900, 300
UNMET = Path(__file__).with_name("unmet.py")


@dataclass(frozen=True)
class Home:
    """The environment that a tree is put before: the image's layers, the interpreter and the modules on a node."""

    layers: tuple[Path, ...]
    python: str
    #: directory of modules, a pattern
    modules: str
    #: constraints of what builds it
    constraints: tuple[str, ...]

    @classmethod
    def of(cls, spec: LabSpec, layers: tuple[Path, ...] = ()) -> Home:
        """The environment of a lab.

        :param layers: of its image, uppermost first; by default those of a new lab.
        :raises RefusedError: it is not in an image that labctl has made.
        """
        ctx = Context.of(spec)
        if ctx.base.source is PackageSource.RDO:
            raise RefusedError(f"{ctx.base.title} has no image that a source could be built in")
        layers = layers or golden.ensure(spec.base, spec.package_source, spec.release)
        python = ctx.release.python(ctx.base.source)
        if ctx.base.source is PackageSource.DEBIAN:
            return cls(layers, python, "usr/lib/python3/dist-packages", ())
        modules = f"{ctx.release.environment.lstrip('/')}/lib/python*/site-packages"
        return cls(layers, python, modules, ctx.release.pypi.build if ctx.release.pypi else ())

    @cached_property
    def identity(self) -> str:
        """Hash of the layers' content."""
        return hashlib.sha256("".join(store.identity(layer) for layer in self.layers).encode()).hexdigest()[:16]

    def schema(self, package: str) -> str:
        """The schema of the release's own project; see :func:`schema`."""
        found: dict[str, str] = {}
        for layer in reversed(self.layers):  # an upper one may have a part of a package
            for site in (layer / "tree").glob(self.modules):
                found |= _digests(site, package, _makes_tables)
        return schema(found)


def made(home: Home, spec: LabSpec, given: Given, *, force: bool = False) -> SourceSpec:
    """Read a source, build its layer, and compare it with the lab's release.

    :param home: the environment of the lab.
    :param force: take a tree of another release.
    :raises RefusedError: it is not a project's tree, is of another release, or requires what the environment has not.
    :raises LabError: it cannot be read or built; the message has its last lines, and the log.
    """
    own = Context.of(spec).release.versions[PackageSource(spec.package_source)].get(given.project, "")
    anyway = f"labctl source {spec.name} {given.text} --force takes it all the same"
    with files.temporary("source-", place=_workshop()) as work, store.keeping():
        taken = take(given, work / "tree")
        version = taken.version or own
        if not force and own and not same_series(given.project, own, version):
            raise RefusedError(
                f"{given.text} is {given.project} {version}; the release of {spec.name} has {own}", anyway
            )
        layer = _layer(home, given, taken, version, work)
    facts = store.manifest_of(layer)
    if facts["unmet"] and not force:
        lines = "\n".join(f"  {needs}; it has {has or 'none'}" for needs, has in facts["unmet"])
        raise RefusedError(f"{given.text} requires what the environment of {spec.name} does not have:\n{lines}", anyway)
    return SourceSpec(
        project=given.project,
        layer=layer.name,
        version=version,
        origin=given.text.partition("=")[2],
        commit=taken.commit,
        dirty=taken.dirty,
        schema_digest=facts["schema"],
    )


def _workshop() -> Path:
    place = paths.cache() / "sources"
    files.make_directories(place)
    return place


def _layer(home: Home, given: Given, taken: Taken, version: str, work: Path) -> Path:
    tree = {} if taken.wheel else _digests(taken.directory)
    if taken.wheel:
        described = _digests(taken.directory)
    else:
        described = {name: digest for name, digest in tree.items() if name.split("/")[0] in DESCRIBES}
        # which modules there are, not what they say
        described["modules"] = hashlib.sha256("\0".join(sorted(tree)).encode()).hexdigest()
    inputs = {"version": RECIPE_VERSION, "home": home.identity, "pbr": version, "tree": described}
    parts = store.ensure(
        store.Recipe(f"parts-{given.project}", inputs),
        lambda into: _parts(home, given, taken, version, tree, into),
        over=home.layers,
    )
    packages: list[str] = store.manifest_of(parts)["packages"]
    code = {name: digest for name, digest in tree.items() if name.split("/")[0] in packages}
    inputs = {"version": RECIPE_VERSION, "home": home.identity, "parts": parts.name, "code": code}
    recipe = store.Recipe(f"source-{given.project}", inputs)
    before = _newest(recipe.kind, home)
    return store.ensure(
        recipe, lambda into: _joined(home, taken, parts, code, before, into, work), over=(parts, *home.layers)
    )


def _digests(root: Path, part: str = "", wanted: Callable[[str], bool] = lambda _: True) -> dict[str, str]:
    """The hash of each file below a directory, or a part of it, by name; of a link, where it leads to."""
    found = {}
    for directory, below, names in os.walk(root / part):
        below[:] = [name for name in below if name != "__pycache__"]
        for path in (Path(directory) / name for name in names):
            name = str(path.relative_to(root))
            if wanted(name):
                content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
                found[name] = hashlib.sha256(content).hexdigest()
    return found


def _makes_tables(name: str) -> bool:
    *places, _ = name.split("/")
    return name.endswith((".py", ".sql")) and any(p.startswith(SCHEMA) for p in places) and "tests" not in places


def schema(modules: dict[str, str]) -> str:
    """Hash of the modules that change tables; empty for a project without."""
    found = [f"{name} {digest}" for name, digest in sorted(modules.items()) if _makes_tables(name)]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] if found else ""


# --- what only a build makes ---------------------------------------------------------------------------


def _inside(home: Home, into: Path, binds: tuple[Bind, ...], env: dict[str, str]) -> Chroot:
    name = store.Recipe("source-wheels", {"home": home.identity}).name
    return Chroot(
        home.layers, into / "build", (*binds, *pip.binds(name)), {**pip.environment(), **env}, store.log_of(into)
    )


def _parts(home: Home, given: Given, taken: Taken, version: str, tree: dict[str, str], into: Path) -> dict[str, Any]:
    out = into / "made"
    files.make_directories(out)
    files.write_atomic(out / "build.txt", "".join(f"{line}\n" for line in home.constraints))
    inside = _inside(
        home,
        into,
        (Bind(taken.directory, "/source", writable=True), Bind(out, "/made", writable=True)),
        {"PBR_VERSION": version, "SETUPTOOLS_SCM_PRETEND_VERSION": version},
    )
    run = (home.python, "-m", "pip")
    with step("source", f"build {given.project} {version}"):
        if taken.wheel is None:
            build = ("--build-constraint", "/made/build.txt") if home.constraints else ()
            wheel = ("wheel", "--no-deps", "--use-pep517", "--progress-bar=off", *build, "--wheel-dir", "/made/wheel")
            inside.run(*run, *wheel, "/source", timeout=BUILD, name=f"pip wheel {given.project}")
            (path,) = (out / "wheel").glob("*.whl")
            name = f"/made/wheel/{path.name}"
        else:
            name = f"/source/{taken.wheel.name}"
        install = ("install", "--no-deps", "--no-compile", "--no-index", "--ignore-installed")
        inside.run(*run, *install, "--prefix=/made/prefix", name, timeout=BUILD, name=f"pip install {given.project}")
    (info,) = out.glob("prefix/**/*.dist-info")
    site = info.parent
    wanted = DISTRIBUTIONS.get(given.project, given.project)
    if info.name.rsplit("-", 1)[0].partition("-")[0].replace("_", "-").lower() != wanted:
        raise RefusedError(f"{given.text} is the project {info.name.partition('-')[0]}, not {wanted}")
    packages = sorted(path.name for path in site.iterdir() if path.is_dir() and path != info)
    kept = into / "tree" / "site"
    files.make_directories(kept)
    files.copy_tree(info, kept / info.name)
    for name in _digests(site):
        top = name.split("/")[0]
        if name not in tree and top != info.name and not _is_test(name):
            files.make_directories((kept / name).parent)
            files.copy(site / name, kept / name, within=kept)
    for part in ("bin", "etc"):
        for place in out.glob(f"prefix/**/{part}"):
            if place.is_dir() and site not in place.parents:
                files.copy_tree(place, into / "tree" / part)
                break
    files.erase(inside.directory)
    files.erase(out)
    return {"packages": packages}


def _is_test(name: str) -> bool:
    return any(part in ("test", "tests") for part in name.split("/")[1:-1])


# --- the layer -------------------------------------------------------------------------------------------


def _newest(kind: str, home: Home) -> Path | None:
    """The newest layer of a project for an environment: most of its modules are compiled already."""
    found = [
        path
        for path in paths.images().glob(f"{kind}-*")
        if (path / "manifest.json").exists() and store.manifest_of(path)["recipe"].get("home") == home.identity
    ]
    return max(found, key=lambda path: (path / "manifest.json").stat().st_mtime, default=None)


def _joined(
    home: Home, taken: Taken, parts: Path, code: dict[str, str], before: Path | None, into: Path, work: Path
) -> dict[str, Any]:
    files.copy_tree(parts / "tree", into / "tree")
    site = into / "tree" / "site"
    known: dict[str, str] = store.manifest_of(before)["code"] if before else {}
    with step("source", f"copy and compile {len(code)} files"):
        for name in code:
            if not _is_test(name):
                files.make_directories((site / name).parent)
                files.copy(taken.directory / name, site / name, within=site)
        for path in site.rglob("*.py"):
            os.utime(path, (TIME, TIME))
        if before:
            same = [name for name, digest in code.items() if known.get(name) == digest]
            _compiled(before / "tree" / "site", site, same)
        inside = _inside(home, into, (Bind(site, "/made", writable=True), Bind(UNMET, "/unmet.py")), {})
        # a project may ship files that do not compile and are never imported
        inside.run(home.python, "-m", "compileall", "-q", "-j", "0", "/made", timeout=COMPILE, check=False)
        inside = Chroot(home.layers, work / "ask", inside.binds, inside.env)
        unmet = json.loads(inside.run(home.python, "/unmet.py", "/made", timeout=BUILD, name="look at requirements"))
    files.erase(into / "build")
    files.erase(work / "ask")
    return {"code": code, "unmet": unmet, "schema": schema(code)}


def _compiled(before: Path, site: Path, names: list[str]) -> None:
    """Take over what was compiled of modules that are the same."""
    for name in names:
        module = Path(name)
        for path in _caches(before / module):
            place = site / module.parent / "__pycache__"
            files.make_directories(place)
            files.copy(path, place / path.name, within=site)


def _caches(module: Path) -> Iterator[Path]:
    if module.suffix == ".py":
        yield from (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")
