"""The Python interpreter of old releases: found on this machine and copied into its own layer.

A node does not have pyenv or its directories, so the copy is in ``/opt/python/X.Y`` and its shared library is
linked from ``/usr/lib``, which the loader searches by default.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import DeadlineError, LabError
from labctl.host import files, process, proxy
from labctl.images import retry, store
from labctl.progress import step

#: Increment when the steps below change the content of the layer.
RECIPE_VERSION = 1
#: Parts of the standard library that no service imports.
LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "site-packages", "dist-packages", "__pycache__", "*.a")
#: Modules that are needed to install or start the projects.
MODULES = ("bz2", "ctypes", "ensurepip", "hashlib", "lzma", "sqlite3", "ssl", "uuid", "venv", "zlib")

#: An interpreter starts in a tenth of a second, but on a machine busy with labs it can take a minute.
_ANSWER_SECONDS = 120
PROBE = f"""
import importlib, json, os, sys, sysconfig
missing = []
for name in {MODULES!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append("%s (%s)" % (name, error))
value = sysconfig.get_config_var
print(json.dumps({{
    "minor": "%d.%d" % sys.version_info[:2],
    "version": sys.version,
    "executable": os.path.realpath(sys.executable),
    "prefix": sys.base_prefix,
    "stdlib": sysconfig.get_path("stdlib"),
    "include": sysconfig.get_path("include"),
    "libdir": value("LIBDIR") if value("Py_ENABLE_SHARED") else None,
    "library": value("INSTSONAME") if value("Py_ENABLE_SHARED") else None,
    "missing": missing,
}}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A CPython on this machine that can run a release."""

    minor: str
    version: str
    executable: Path
    prefix: Path
    stdlib: Path
    include: Path
    #: its shared library, if it has one
    library: Path | None

    @property
    def home(self) -> str:
        """Its directory in a node."""
        return f"/opt/python/{self.minor}"

    @property
    def program(self) -> str:
        """Its command in a node."""
        return f"{self.home}/bin/python{self.minor}"


def find(minors: Sequence[str], title: str) -> Interpreter:
    """Return the best interpreter for a release, installing one with uv if the machine has none.

    :param minors: acceptable versions, best first.
    :param title: what it is for, in messages.
    :raises LabError: none was found; lists the rejected candidates.
    """
    refused: list[str] = []
    for minor in minors:
        for candidate in _candidates(minor):
            if found := _probe(candidate, minor, refused):
                return found
    if shutil.which("uv"):
        for minor in minors:
            if found := _bring(minor, refused):
                return found
    else:
        refused.append("uv, which could install one: not installed")
    looked = "".join(f"\n  {line}" for line in refused)
    raise LabError(
        f"{title} needs Python {' or '.join(minors)}, and this machine has no suitable one; rejected:{looked}",
        f"pyenv install {minors[0]}, or install uv, which downloads one; then repeat the same command",
    )


def _pyenv_roots() -> Iterator[Path]:
    if root := os.environ.get("PYENV_ROOT"):
        yield Path(root)
    yield Path.home() / ".pyenv"


def _candidates(minor: str) -> Iterator[Path]:
    """pyenv's versions, newest first, then PATH; each once."""
    seen = set()
    for root in _pyenv_roots():
        # names with letters are pre-releases and other implementations
        found = [p for p in (root / "versions").glob(f"{minor}.*") if p.name.replace(".", "").isdigit()]
        for path in sorted(found, key=lambda p: int(p.name.rpartition(".")[2]), reverse=True):
            seen.add(path / "bin" / f"python{minor}")
            yield path / "bin" / f"python{minor}"
    if (on_path := shutil.which(f"python{minor}")) and Path(on_path) not in seen:
        yield Path(on_path)


def _probe(executable: Path, minor: str, refused: list[str]) -> Interpreter | None:
    """Probe an interpreter; an unsuitable one is added to ``refused`` with the reason."""
    try:
        # -I: ignore the user's site-packages and PYTHONPATH
        said: dict[str, Any] = json.loads(process.output([executable, "-I", "-c", PROBE], timeout=_ANSWER_SECONDS))
    except DeadlineError:
        refused.append(f"{executable}: timed out after {_ANSWER_SECONDS} s")
        return None
    except process.CommandError as error:
        refused.append(f"{executable}: {error.reason}")
        return None
    except (LabError, OSError, ValueError) as error:
        refused.append(f"{executable}: {str(error).strip().splitlines()[-1]}")
        return None
    if said["minor"] != minor:
        refused.append(f"{executable}: is Python {said['minor']}")
        return None
    if said["missing"]:
        refused.append(f"{executable}: lacks {', '.join(said['missing'])}")
        return None
    library = Path(said["libdir"]) / said["library"] if said["library"] else None
    if library and not library.exists():
        refused.append(f"{executable}: its library {library} is missing")
        return None
    return Interpreter(
        minor,
        said["version"],
        Path(said["executable"]),
        Path(said["prefix"]),
        Path(said["stdlib"]),
        Path(said["include"]),
        library,
    )


def _bring(minor: str, refused: list[str]) -> Interpreter | None:
    def uv(*words: str) -> str:
        # in a working directory uv reads uv.toml, pyproject.toml and .venv
        name, env = f"uv python {words[0]}", {**os.environ, **proxy.variables()}
        return process.run(["uv", "python", *words], timeout=900, cwd=Path("/"), env=env, name=name).stdout

    try:
        with step("image", f"uv installs Python {minor}"):
            retry.again(lambda: uv("install", minor))
        path = uv("find", "--python-preference", "only-managed", minor).rstrip("\n")
    except LabError as error:
        why = error.reason if isinstance(error, process.CommandError) else retry.first_line(error)
        refused.append(f"uv python install {minor}: {why}")
        return None
    return _probe(Path(path), minor, refused)


def recipe(found: Interpreter) -> store.Recipe:
    """What the layer is built from; sys.version includes the build's date and compiler."""
    return store.Recipe(
        f"python{found.minor}",
        {
            "version": RECIPE_VERSION,
            "interpreter": found.version,
            "library": found.library.name if found.library else "",
            "left out": LEFT_OUT,
        },
    )


def ensure(found: Interpreter) -> Path:
    """Return the layer with an interpreter, copying it if needed."""
    return store.ensure(recipe(found), lambda work: _build(found, work))


def _build(found: Interpreter, work: Path) -> dict[str, Any]:
    home = work / "tree" / found.home.lstrip("/")
    libraries = home / "lib"
    stdlib = libraries / f"python{found.minor}"
    files.copy_tree(found.stdlib, stdlib, LEFT_OUT)
    files.copy_tree(found.include, home / "include" / found.include.name)
    files.new_directory(stdlib / "site-packages")
    files.new_directory(home / "bin")
    files.copy(found.executable, home / "bin" / f"python{found.minor}")
    files.link(home / "bin" / "python3", f"python{found.minor}")
    if found.library:
        files.copy(found.library, libraries / found.library.name)
        # what a linker looks for: libpython3.7m.so
        files.link(libraries / f"{found.library.name.partition('.so')[0]}.so", found.library.name)
        files.make_directories(work / "tree/usr/lib")
        files.link(work / "tree/usr/lib" / found.library.name, f"{found.home}/lib/{found.library.name}")
    _relocate(found, stdlib)
    process.run(
        [found.executable, "-I", "-m", "compileall", "-q", "-d", f"{found.home}/lib/python{found.minor}", stdlib],
        timeout=300,
        log=store.log_of(work),
        check=False,  # lib2to3 has files that are deliberately not Python 3
    )
    return {"interpreter": found.version, "copied from": str(found.prefix)}


def _relocate(found: Interpreter, stdlib: Path) -> None:
    """Let extension modules be built against the copy: replace the old path in the recorded build settings."""
    if found.prefix == Path("/usr"):
        return  # a distribution's interpreter: its paths are the same in a node
    for recorded in stdlib.glob("_sysconfigdata*.py"):
        status = recorded.stat()
        files.write_atomic(recorded, recorded.read_text().replace(str(found.prefix), found.home))
        os.utime(recorded, ns=(status.st_atime_ns, status.st_mtime_ns))
