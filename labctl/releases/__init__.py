"""The releases labctl has a recipe for; adding one takes one file and one line here."""

from labctl.errors import LabError
from labctl.releases.mitaka import MITAKA
from labctl.releases.model import PackageSource, Release
from labctl.releases.rocky import ROCKY
from labctl.releases.train import TRAIN
from labctl.releases.ussuri import USSURI
from labctl.releases.zed import ZED

RELEASES: dict[str, Release] = {r.name: r for r in (MITAKA, ROCKY, TRAIN, USSURI, ZED)}


def get(name: str) -> Release:
    """Return a release's facts.

    :raises LabError: when labctl has no recipe for it.
    """
    if name not in RELEASES:
        raise LabError(
            f"labctl has no recipe for the release '{name}'; it has {', '.join(RELEASES)}", "labctl releases"
        )
    return RELEASES[name]


__all__ = ["RELEASES", "PackageSource", "Release", "get"]
