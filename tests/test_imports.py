"""Nobody imports upward: the order of docs/architecture.md holds for every import, and no modules form a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "labctl"
#: Modules that may lie beside the packages, with __init__ and __main__.
LOOSE = 5


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def order() -> list[str]:
    """Packages and modules from the lowest to the highest, as the document has them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    (block,) = re.findall(r"^```order\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [word for line in block.splitlines() for word in line.partition("  ")[0].split()]


def for_type_checkers(tree: ast.Module) -> set[ast.AST]:
    """What stands under ``if TYPE_CHECKING``: names in annotations, which nothing executes."""
    blocks = [i for i in ast.walk(tree) if isinstance(i, ast.If) and ast.unparse(i.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of labctl that one imports, anywhere in it."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    tree = ast.parse(MODULES[module].read_text())
    skipped = for_type_checkers(tree)
    for item in ast.walk(tree):
        if item in skipped:
            continue
        if isinstance(item, ast.ImportFrom) and (item.module or "").partition(".")[0] == "labctl":
            for alias in item.names:
                full = f"{item.module}.{alias.name}"
                yield full if full in MODULES else str(item.module)
        elif isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names if alias.name in MODULES)


def rank(module: str) -> int:
    """The place of a module in the order: its own, or that of the nearest package above it."""
    names = order()
    while module != "labctl":
        if module.removeprefix("labctl.") in names:
            return names.index(module.removeprefix("labctl."))
        module = module.rpartition(".")[0]
        if module == "labctl.drivers":  # the table is low, the drivers themselves are not
            return names.index("drivers.*")
    return -1


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_one_that_stands_above_it(module: str) -> None:
    assert [used for used in imports(module) if rank(used) > rank(module)] == []


def test_everything_has_its_place_in_the_order() -> None:
    tops = {module.split(".")[1] for module in MODULES if module != "labctl"}
    assert tops == {name.partition(".")[0] for name in order()}


def test_no_modules_import_each_other_in_a_circle() -> None:
    # a package's own __init__ is imported by its modules' importers, not by the modules
    graph = {module: {used for used in imports(module) if used != module} for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_few_modules_lie_beside_the_packages() -> None:
    loose = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem not in ("__init__", "__main__"))
    assert len(loose) <= LOOSE, loose
