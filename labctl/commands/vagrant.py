"""Verbs for Vagrant users: a lab as a Vagrantfile, and boxes of labctl's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import releases
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import BaseName, Output, OwnName, ReleaseName, TopologyName
from labctl.errors import LabError
from labctl.host import files
from labctl.images import store
from labctl.releases.model import PackageSource

if TYPE_CHECKING:
    from labctl.images.box import Box

group = typer.Typer(no_args_is_help=True)


@group.callback()
def vagrant() -> None:
    """Labs for Vagrant: a Vagrantfile, boxes of labctl's own images."""


@group.command()
def render(
    topology: TopologyName,
    to: Annotated[
        Path | None, typer.Option(metavar="TARGET", help="directory to write; default: the lab's name")
    ] = None,
    name: OwnName = None,
    release: ReleaseName = None,
    base: BaseName = None,
    box: Annotated[str, typer.Option(help="Vagrant's name of a box to use instead of labctl's own")] = "",
    box_version: Annotated[str, typer.Option(help="version of that box")] = "",
    box_url: Annotated[str, typer.Option(help="file or catalogue of that box")] = "",
    box_checksum: Annotated[str, typer.Option(help="SHA-256 of that box's file")] = "",
) -> None:
    """Write a topology's machines as Vagrantfile and lab.json; `vagrant up` there needs no labctl."""
    from labctl.commands.wanted import Wanted
    from labctl.drivers.vagrant import document
    from labctl.drivers.vagrant.document import Settings
    from labctl.images.box import Box

    if not box and (box_version or box_url or box_checksum):
        raise LabError("--box-version, --box-url and --box-checksum need --box", "--box NAME")
    spec = Wanted(topology, name, release, base, "vagrant").draft()
    chosen = Box(box, box_version, box_url, box_checksum, own=False) if box else _box(spec.base, spec.release)
    directory = to or Path(spec.name)
    try:
        files.make_directories(directory)
        files.write_atomic(directory / document.FILE, document.render(spec, Settings(chosen)))
        files.copy(document.VAGRANTFILE, directory / "Vagrantfile", 0o644)
    except OSError as error:
        raise LabError(f"{directory} cannot be written: {error.strerror}", "--to DIRECTORY") from error
    out.print(f"{directory}/Vagrantfile, {directory}/{document.FILE}: {', '.join(spec.nodes)}")
    if chosen.own and not chosen.version:
        out.print(
            f"the box {chosen.name} is not built here yet: labctl vagrant box {spec.base} --release {spec.release}"
        )


def _box(base: str, release: str) -> Box:
    from labctl.drivers.vagrant import document
    from labctl.images import box as boxes

    return document.FOREIGN.get(base) or boxes.known(boxes.box_name(base, release))


@group.command()
def box(
    base: Annotated[str, typer.Argument(help="debian12 or debian13")] = "debian12",
    release: ReleaseName = None,
    provider: Annotated[str, typer.Option(help="libvirt or virtualbox")] = "libvirt",
    add: Annotated[bool, typer.Option("--add/--no-add", help="register it with Vagrant")] = True,
) -> None:
    """Build a box from labctl's own image of a base and release, and register it with this user's Vagrant."""
    from labctl.drivers.vagrant import command
    from labctl.images import box as boxes
    from labctl.images import golden

    facts = _facts(base, release)
    with progress(), store.keeping():
        layers = golden.ensure(base, facts.bases[base].value, facts.name)
        image = boxes.ensure(layers, provider)
        made = boxes.publish(boxes.box_name(base, facts.name), provider, image)
        if add:
            command.register(made, provider)
    out.print(f"{made.name} {made.version} ({provider}): {boxes.file_of(image)}")
    out.print(f"SHA-256 {made.checksum}")
    if not add:
        out.print(f"vagrant box add --provider {provider} {made.url}")


def _facts(base: str, release: str | None) -> releases.Release:
    able = [r for r in releases.RELEASES.values() if r.bases.get(base) in (PackageSource.DEBIAN, PackageSource.PYPI)]
    facts = releases.get(release) if release else (able[-1] if able else None)
    if facts is None or facts not in able:
        names = ", ".join(r.name for r in able) or "none"
        raise LabError(
            f"labctl builds no box of {base}{f' with {release}' if release else ''}; releases for it: {names}",
            "labctl releases",
        )
    return facts


@group.command("boxes")
def show(output: Output = Format.TABLE) -> None:
    """List the boxes built on this machine."""
    from labctl.images import box as boxes

    listing(output, boxes.listing(), ["name", "version", "provider", "state", "checksum"])
