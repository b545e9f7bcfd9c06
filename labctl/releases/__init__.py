"""The releases labctl has a recipe for; adding one takes one file and one line here."""

from labctl.errors import LabError
from labctl.releases.caracal import CARACAL
from labctl.releases.epoxy import EPOXY
from labctl.releases.gazpacho import GAZPACHO
from labctl.releases.mitaka import MITAKA
from labctl.releases.model import PackageSource, Release
from labctl.releases.passed.antelope import ANTELOPE
from labctl.releases.passed.stein import STEIN
from labctl.releases.passed.victoria import VICTORIA
from labctl.releases.passed.wallaby import WALLABY
from labctl.releases.passed.xena import XENA
from labctl.releases.passed.yoga import YOGA
from labctl.releases.rocky import ROCKY
from labctl.releases.train import TRAIN
from labctl.releases.ussuri import USSURI
from labctl.releases.zed import ZED

RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        MITAKA,
        ROCKY,
        TRAIN,
        USSURI,
        ZED,
        CARACAL,
        EPOXY,
        GAZPACHO,
    )
}

#: Releases that only an upgrade passes: no topology names them.
PASSED: dict[str, Release] = {release.name: release for release in (STEIN, VICTORIA, WALLABY, XENA, YOGA, ANTELOPE)}

#: All of them, by name.
EVERY: dict[str, Release] = {**RELEASES, **PASSED}

#: The names of releases that topologies may name, by their numbers.
NUMBERS = {r.number: r.name for r in RELEASES.values() if r.number}


def named(word: str) -> str:
    """The name of a release that may be given by its number; any other word as it is."""
    return next((r.name for r in EVERY.values() if r.number and r.number == word), word)


def get(name: str) -> Release:
    """Return a release's facts, by its name or number.

    :raises LabError: when labctl has no recipe for it.
    """
    name = named(name)
    if name not in EVERY:
        raise LabError(
            f"labctl has no recipe for the release '{name}'; it has {', '.join(RELEASES)}", "labctl releases"
        )
    return EVERY[name]


__all__ = ["EVERY", "NUMBERS", "PASSED", "RELEASES", "PackageSource", "Release", "get", "named"]
