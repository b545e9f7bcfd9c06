"""Verbs for images: installation media from the catalogue, and the images labctl built from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl import bases, releases
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import Output
from labctl.errors import LabError
from labctl.host import files, paths
from labctl.images import golden, installed, media, store
from labctl.lab import gc
from labctl.progress import step
from labctl.topology.units import show_size

group = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="a file in the catalogue (see labctl image list)")]


def _images() -> list[Path]:
    """The images in the store."""
    return sorted(p.parent for p in paths.images().glob("[!.]*/manifest.json"))


def _size(tree: Path) -> int:
    return sum(p.lstat().st_blocks * 512 for p in tree.rglob("*"))


@group.callback()
def image() -> None:
    """Installation media and the images built from them."""


@group.command("list")
def show(output: Output = Format.TABLE) -> None:
    """List the catalogue and the images in the store."""
    rows = [
        {
            "name": m.name,
            "kind": "installer" if m.installer else "disk",
            "for": f"{m.base} {m.point_release}",
            "state": "present" if media.present(m) else "absent",
            "size": show_size(media.path_of(m).stat().st_size) if media.present(m) else "",
            "url": m.url(),
            "sha256": m.sha256,
        }
        for m in media.CATALOGUE
    ]
    rows += [
        {"name": p.name, "kind": "image", "for": "", "state": "present", "size": show_size(_size(p))} for p in _images()
    ]
    listing(output, rows, ["name", "kind", "for", "state", "size"])


@group.command()
def fetch(
    name: Name,
    mirror: Annotated[
        str | None, typer.Option(help="URL of a mirror with the same layout as the file's own site")
    ] = None,
) -> None:
    """Download a file from the catalogue; resumes an interrupted download."""
    with progress():
        path = media.fetch(media.get(name), mirror)
    out.print(str(path))


@group.command()
def add(file: Annotated[Path, typer.Argument(metavar="FILE", help="a file on this machine")]) -> None:
    """Add a file to the store; its checksum identifies it."""
    with progress():
        medium = media.add(file)
    out.print(f"{file}: {medium.name}")


@group.command()
def verify() -> None:
    """Compare every medium with its checksum and every image with its manifest."""
    wrong: list[str] = []
    with progress():
        for medium in (m for m in media.CATALOGUE if media.present(m)):
            try:
                media.verify(medium)
            except LabError as error:
                wrong.append(error.message)
        for image in _images():
            with step("image", f"check {image.name}"):
                try:
                    store.verify(image)
                except LabError as error:
                    wrong.append(error.message)
    if wrong:
        raise LabError(
            "\n".join(wrong), "remove them; the next command that needs one rebuilds it or names the file to fetch"
        )


@group.command()
def prune(
    unused: Annotated[bool, typer.Option("--unused", help="also images that no lab uses")] = False,
) -> None:
    """Remove interrupted downloads; with --unused also images that no lab of this home uses."""
    for path in media.leftovers():
        files.erase(path)
        out.print(f"removed {path}")
    if not unused:
        return
    found = list(gc.unused_images())
    with progress():
        left = gc.remove(found)
    for finding in (f for f in found if not (paths.images() / f.name).exists()):
        out.print(f"removed {paths.images() / finding.name}")
    if left:
        raise LabError("not removed:\n" + "\n".join(left), "labctl gc --images")


@group.command()
def build(
    base: Annotated[str, typer.Argument(help="debian12, centos7, centos8")],
    release: Annotated[str | None, typer.Option(help="the release whose packages it contains")] = None,
    installer: Annotated[
        bool,
        typer.Option(
            "--installer", help="install in a virtual machine with the base's own installer, and boot the result"
        ),
    ] = False,
    mirror: Annotated[
        str | None,
        typer.Option(help="archive for Debian's installer, http://HOST/debian; default: this machine's own"),
    ] = None,
) -> None:
    """Build the golden image of a base, with a release's packages where they are part of it."""
    newest_first = reversed(releases.RELEASES.values())
    documented = (r for r in newest_first if next(iter(r.bases)) == base)
    facts = releases.get(release) if release else next(documented, None)
    if facts is None or base not in facts.bases:
        able = ", ".join(r.name for r in releases.RELEASES.values() if base in r.bases)
        raise LabError(
            f"{release} is not available on {base}" if release else f"unknown base '{base}'",
            f"releases for it: {able}" if able else "labctl releases",
        )
    known = bases.get(base, facts.bases[base])
    with progress():
        by_installer = installer or known.redhat is not None
        made = (
            [installed.ensure(known, facts, mirror_url=mirror)]
            if by_installer
            else golden.ensure(base, known.source, facts.name)
        )
    for layer in made:
        out.print(str(layer))
