"""The machine's pip configuration inside a chroot: what is seen there, what is kept out."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.images import pip


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any pip setting."""
    for name in ("PIP_CONFIG_FILE", "PIP_CACHE_DIR", "PIP_FIND_LINKS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    return tmp_path


def configure(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def seen() -> dict[str, tuple[str, str]]:
    """Target -> (mode, source)."""
    return {target: (mode, source) for mode, source, target in (b.words() for b in pip.binds("image-1"))}


def test_a_local_index_is_seen_with_the_files_its_pages_point_at(machine: Path) -> None:
    (machine / "mirror/simple").mkdir(parents=True)
    (machine / "wheels").mkdir()
    file = configure(
        machine / ".config/pip/pip.conf",
        f"[global]\nextra-index-url = file://{machine}/mirror/simple\n    https://index.example/simple\n"
        f"find-links = {machine}/wheels {machine}/nowhere\n",
    )

    found = seen()

    assert found[f"{machine}/mirror"] == ("ro", f"{machine}/mirror")
    assert found[f"{machine}/wheels"] == ("ro", f"{machine}/wheels")
    assert found[str(file)] == ("ro", str(file))
    assert f"{machine}/nowhere" not in found


def test_settings_in_the_environment_count_too(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "wheels").mkdir()
    bundle = configure(machine / "ca.pem", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(machine / "wheels"))
    monkeypatch.setenv("PIP_CERT", str(bundle))
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")

    assert str(machine / "wheels") in seen()
    assert str(bundle) in seen()
    environment = pip.environment()
    assert environment["PIP_FIND_LINKS"] == str(machine / "wheels")
    assert environment["https_proxy"] == "http://proxy.example:3128"


def test_what_to_install_and_where_is_not_the_machines_to_say(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "/my/constraints.txt")
    monkeypatch.setenv("PIP_TARGET", "/my/libraries")

    assert not {"PIP_CONSTRAINT", "PIP_TARGET"} & set(pip.environment())


def test_downloads_are_shared_with_the_machine_and_built_wheels_are_not(
    machine: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABCTL_CACHE", raising=False)
    found = seen()

    assert found[pip.CACHE] == ("rw", str(machine / ".cache/pip"))
    assert found[f"{pip.CACHE}/wheels"] == ("rw", str(home / "cache/wheels/image-1"))
    assert list(found)[-2:] == [pip.CACHE, f"{pip.CACHE}/wheels"]  # the one is mounted into the other
    assert pip.environment()["PIP_CACHE_DIR"] == pip.CACHE


@pytest.mark.parametrize("how", ["environment", "file"])
def test_the_machines_own_place_of_the_cache_is_used(machine: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("PIP_CACHE_DIR", str(machine / "elsewhere"))
    else:
        configure(machine / ".pip/pip.conf", f"[global]\ncache-dir = {machine}/elsewhere\n")

    assert seen()[pip.CACHE] == ("rw", str(machine / "elsewhere"))
