"""labctl: real OpenStack labs from one file, proven end to end."""

# no import before this, __future__ included: the modules of the standard library are looked for there as well
import sys

# python -m labctl puts the working directory first, whoever's it is; only labctl itself may be imported from there
if (
    sys.argv[:1] == ["-m"]
    and not {"labctl", "-mlabctl"}.isdisjoint(sys.orig_argv)
    and not sys.flags.safe_path
    and not __file__.startswith(f"{sys.path[0]}/labctl/")
):
    del sys.path[0]

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The checkout that this labctl runs from; None when it was installed as a wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "topologies").is_dir() else None


def shipped(name: str) -> Path:
    """A folder or file that labctl comes with: ``topologies``, ``kickstart``, ``vagrant``, ``e2e``, ``systemd``,
    ``nightly.yaml``.

    They lie beside the package in a checkout, and in the package where it was installed (setup.py).
    """
    return (checkout() or _PACKAGE / "data") / name
