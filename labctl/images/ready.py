"""The uppermost layer of a golden image of containers and machines: what every lab would do again.

The tables of its projects, made by their own programs, and a setting of the interpreter that spares daemons a tenth of
their start. The layer is made from exactly the image below it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labctl.bases.model import Base
from labctl.host import files
from labctl.images import stack, store
from labctl.images.chroot import Bind, Chroot
from labctl.images.debian import finish
from labctl.operations.node import Database
from labctl.progress import note, step
from labctl.releases.model import PackageSource, Release
from labctl.services.infra import CHARACTERS
from labctl.services.schema import Schema, schemas

#: Increment when the steps below change the content of the layer.
RECIPE_VERSION = 1
SCRIPT = Path(__file__).with_name("tables.sh")
#: Where nodes look for them (prelude.sh).
TABLES = "/usr/share/labctl/tables"
#: Seconds for all tables of a release, on a slow machine.
TIMEOUT = 900
#: A daemon imports thousands of modules at its start and keeps them all; the collector looks through them again after
#: each 700 new objects by default. Read by every interpreter as it starts (Python: site).
COLLECTOR = "import gc; gc.set_threshold(10000, 20, 50)\n"


@store.keeping()
def ensure(base: Base, release: Release, below: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the layers of an image with this one on top of them, building it if it is missing.

    :raises LabError: it could not be built; the layers below it are kept.
    """
    wanted = tuple(s for s in schemas(release, base.source) if stack.find(below, f"usr/bin/{s.program}") is not None)
    recipe = store.Recipe(
        f"{base.name}-{release.name if base.source is PackageSource.PYPI else base.source}-ready",
        {
            "version": RECIPE_VERSION,
            "below": [store.identity(layer) for layer in below],
            "script": hashlib.sha256(SCRIPT.read_bytes()).hexdigest(),
            "schemas": [repr(schema) for schema in wanted],
            "server": CHARACTERS,
            "collector": COLLECTOR,
        },
    )
    made = store.ensure(recipe, lambda work: _build(base, release, work, below, wanted), over=below)
    return (made, *below)


def arguments(wanted: Sequence[Schema], place: str) -> list[str]:
    """The script's arguments: how a database is made, the server's options, where the dumps go, and the schemas."""
    options = " ".join(f"--{name}={value}" for name, value in CHARACTERS.items())
    made = [Database("NAME", "", "").create, options, place]
    for schema in wanted:
        made += [schema.section, schema.program, ",".join(schema.databases), ";".join(schema.commands)]
    return made


def _build(
    base: Base, release: Release, work: Path, below: tuple[Path, ...], wanted: tuple[Schema, ...]
) -> dict[str, Any]:
    final = work.with_name(work.name.removeprefix(store.BUILDING))
    inside = Chroot(below, work / "build", (Bind(SCRIPT, "/tmp/tables.sh"),), log=store.log_of(work))
    with step("image", f"{base.title}: tables of {len(wanted)} projects"):
        inside.run("sh", "/tmp/tables.sh", *arguments(wanted, TABLES), timeout=TIMEOUT, name="tables.sh")
        place = inside.upper / TABLES.lstrip("/")
        made = sorted(path.stem for path in place.glob("*.sql"))
        for name in (name for schema in wanted for name in schema.databases if name not in made):
            note("image", f"tables of {name} are made by each lab: {final}/build.log has why")
    for modules in (Path("usr/lib/python3/dist-packages"), *_modules(base, release, below)):
        target = inside.upper / modules / "labctl_collector.pth"
        files.make_directories(target.parent)
        files.write_atomic(target, COLLECTOR, within=inside.upper)
    finish(inside, work)
    return {"below": [layer.name for layer in below], "tables": made}


def _modules(base: Base, release: Release, below: tuple[Path, ...]) -> list[Path]:
    """The directories of modules of a release from PyPI, relative to the root."""
    if base.source is not PackageSource.PYPI:
        return []
    pattern = f"{release.environment.lstrip('/')}/lib/python*/site-packages"
    return sorted(path.relative_to(layer / "tree") for layer in below for path in (layer / "tree").glob(pattern))
