"""Whose an export is: a signature by an SSH key, beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.host import signature


def a_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = tmp_path / "lab file.tar.zst"
    path.write_bytes(b"content" * 1000)
    signature.sign(path, a_key(tmp_path / "key"))
    return path


def allowed(tmp_path: Path, key: str = "key") -> Path:
    path = tmp_path / "allowed"
    path.write_text(f"me@example.org {(tmp_path / f'{key}.pub').read_text()}")
    return path


def test_a_signature_says_which_key_made_it_and_whose_that_is(signed: Path, tmp_path: Path) -> None:
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    fingerprint = shown.stdout.split()[1]
    assert fingerprint in signature.signer(signed)
    said = signature.signer(signed, allowed(tmp_path))
    assert said.startswith("me@example.org, ")
    assert fingerprint in said


def test_a_file_that_was_changed_is_refused(signed: Path, tmp_path: Path) -> None:
    signed.write_bytes(signed.read_bytes() + b"x")
    for signers in (None, allowed(tmp_path)):
        with pytest.raises(LabError, match="is not a signature of"):
            signature.signer(signed, signers)


def test_a_signature_of_somebody_else_or_for_another_purpose_is_refused(signed: Path, tmp_path: Path) -> None:
    a_key(tmp_path / "other")
    with pytest.raises(LabError, match="which is of nobody in"):
        signature.signer(signed, allowed(tmp_path, "other"))
    signature.of(signed).unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", tmp_path / "key", signed], check=True)
    with pytest.raises(LabError, match="is not a signature of"):
        signature.signer(signed)


def test_a_missing_signature_is_refused_only_where_one_is_wanted(signed: Path, tmp_path: Path) -> None:
    signature.of(signed).unlink()
    assert signature.signer(signed) == ""
    with pytest.raises(LabError, match="is not signed"):
        signature.signer(signed, allowed(tmp_path))
