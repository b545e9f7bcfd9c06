#!/usr/bin/env python3
"""Check rendered OpenStack configuration files against the options that a release really knows.

Usage: check_options.py RELEASE FILE...

The kind of file is its base name (nova.conf, ml2_conf.ini ...). One line per finding; exit status 1 if an
option or section is unknown, 2 for wrong usage. Deprecated spellings are reported but do not fail.
The syntax is oslo.config's: '#' and ';' open a comment only at the start of a line, an inline remark
belongs to the value, a line that begins with white space continues the value above it.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

CATALOGS = Path(__file__).resolve().parent / "data" / "options"
Names = dict[str, set[str]]


def settings(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line number, section, option, value); an option of '' stands for the section header itself."""
    section = "DEFAULT"
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line[0] in "#;" or line[0].isspace():
            continue
        if line.startswith("["):
            section = line[1:].split("]", 1)[0]
            yield number, section, "", ""
            continue
        separator = min((line.find(s) for s in "=:" if s in line), default=-1)
        key = line if separator < 0 else line[:separator]
        value = "" if separator < 0 else line[separator + 1 :]
        yield number, section, key.strip().replace("-", "_"), value.strip()


def backend_sections(path: Path) -> set[str]:
    """Sections an operator names freely: the back ends listed in enabled_backends."""
    names = [v for _, _, option, v in settings(path) if option in ("enabled_backends", "enabled_glance_stores")]
    return {name.split(":", 1)[0].strip() for v in names for name in v.split(",") if name.strip()}


def hint(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check(path: Path, known: Names, deprecated: Names) -> Iterator[tuple[bool, str]]:
    """Yield (is an error, message) for every setting of a file that the release does not know."""
    free = backend_sections(path)
    everywhere = set().union(*known.values())
    old_everywhere = set().union(*deprecated.values())
    for number, section, option, _ in settings(path):
        where = f"{path}:{number}: [{section}]"
        if section in free:
            if option in old_everywhere - everywhere:
                yield False, f"{where} {option}: deprecated spelling"
            elif option and option not in everywhere:
                yield True, f"{where} {option}: unknown option{hint(option, everywhere)}"
        elif section not in known and section not in deprecated:
            if not option:
                yield True, f"{where}: unknown section{hint(section, set(known))}"
        elif option and option not in known.get(section, set()):
            if option in deprecated.get(section, set()):
                yield False, f"{where} {option}: deprecated spelling"
            else:
                yield True, f"{where} {option}: unknown option{hint(option, known.get(section, set()))}"


def as_sets(names: dict[str, list[str]]) -> Names:
    return {group: set(options) for group, options in names.items()}


def main(argv: list[str]) -> int:
    catalogs = sorted(p.stem for p in CATALOGS.glob("*.json"))
    if len(argv) < 2 or argv[0] not in catalogs:
        print(f"usage: check_options.py {{{','.join(catalogs)}}} FILE...", file=sys.stderr)
        return 2
    catalog = json.loads((CATALOGS / f"{argv[0]}.json").read_text())
    failed = False
    for path in map(Path, argv[1:]):
        if path.name not in catalog["files"]:
            print(f"{path}: no catalog for {path.name} in {argv[0]}; known: {', '.join(sorted(catalog['files']))}")
            failed = True
            continue
        known = as_sets(catalog["files"][path.name])
        for is_error, message in check(path, known, as_sets(catalog["deprecated"].get(path.name, {}))):
            failed |= is_error
            print(message)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
