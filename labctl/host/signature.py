"""Signatures of files by SSH keys, beside them as ``FILE.sig`` (ssh-keygen(1), ``-Y sign``)."""

from __future__ import annotations

from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, process

#: A signature made for another purpose is none for this one.
_PURPOSE = "labctl"
#: Seconds to read a file of many GiB.
_TIMEOUT = 1800


def of(path: Path) -> Path:
    """Where a file's signature is."""
    return path.with_name(f"{path.name}.sig")


def sign(path: Path, key: Path) -> Path:
    """Sign a file, replacing an earlier signature; ssh-keygen asks an agent if it has the key.

    :param key: a private key, or the public key of one in an SSH agent.
    :raises LabError: the key cannot be used.
    """
    files.discard(of(path))
    process.run(["ssh-keygen", "-Y", "sign", "-q", "-n", _PURPOSE, "-f", key, path], timeout=_TIMEOUT)
    return of(path)


def signer(path: Path, allowed: Path | None = None, shown: str = "") -> str:
    """Say whose signature a file has: a principal of the allowed signers, else the key alone; empty without any.

    :param allowed: a file of allowed signers (ssh-keygen(1)); one of them has to have signed it.
    :param shown: what the file is called in messages; default: its path.
    :raises LabError: the signature is not the file's, or not one of the allowed signers'.
    """
    shown = shown or str(path)
    if not of(path).is_file():
        if allowed is not None:
            raise LabError(f"{shown} is not signed: there is no {shown}.sig")
        return ""
    about = ["-n", _PURPOSE, "-s", str(of(path))]
    try:
        said = _asked(path, "check-novalidate", *about).rpartition(" with ")[2]
    except process.CommandError as error:
        raise LabError(f"{shown}.sig is not a signature of {shown}: {error.reason}", "do not use the file") from error
    if allowed is None:
        return said
    try:
        principal = _asked(path, "find-principals", *about, "-f", str(allowed)).splitlines()[0]
        _asked(path, "verify", *about, "-f", str(allowed), "-I", principal)
    except process.CommandError as error:
        raise LabError(
            f"{shown} is signed with {said}, which is of nobody in {allowed}", "do not use the file"
        ) from error
    return f"{principal}, {said}"


def _asked(path: Path, verb: str, *words: str) -> str:
    command = ["sh", "-c", 'from=$0; exec ssh-keygen -Y "$@" <"$from"', str(path), verb, *words]
    return process.output(command, timeout=_TIMEOUT)
