"""A source is copied as it is, with what git says of it; what cannot be copied is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import commit, git, make, packed

from labctl.errors import LabError, RefusedError
from labctl.sources import tree
from labctl.sources.given import Given, Kind, read
from labctl.sources.tree import Taken, take


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository with a tag, a commit after it, and an ignored file."""
    place = make(tmp_path / "nova", files={".gitignore": "*.log\n"})
    commit(place, "26.1.0")
    (place / "nova" / "api.py").write_text("first = 1\n")
    commit(place)
    (place / "big.log").touch()
    return place


def taken(where: str, within: Path, into: str = "copy") -> Taken:
    return take(read(f"nova={where}", ("nova",), within), within / into)


def names(found: Taken) -> set[str]:
    return {str(p.relative_to(found.directory)) for p in found.directory.rglob("*") if not p.is_dir()}


def test_a_working_tree_comes_with_what_is_not_committed_and_without_what_is_ignored(
    place: Path, tmp_path: Path
) -> None:
    head = git(place, "rev-parse", "HEAD")
    assert taken("nova", tmp_path) == Taken(tmp_path / "copy", head, dirty=False, described=f"26.1.0-1-g{head[:7]}")
    (place / "nova" / "new.py").write_text("new = 1\n")
    (place / "README.rst").unlink()
    (place / "link").symlink_to("README.rst")
    found = taken("nova", tmp_path, "dirty")
    assert (found.commit, found.dirty, found.version) == (head, True, "26.1.1.dev1")
    assert {"nova/new.py", "link", "etc/nova/api-paste.ini"} <= names(found)
    assert not {"README.rst", "big.log", ".git/HEAD"} & names(found)


@pytest.mark.parametrize("ref", ["26.1.0", "master", "HEAD~1", "refs/tags/26.1.0"])
def test_a_commit_of_a_repository_does_not_have_what_is_in_its_working_tree(
    place: Path, tmp_path: Path, ref: str
) -> None:
    (place / "nova" / "api.py").write_text("first = 2\n")
    found = taken(f"nova@{ref}", tmp_path)
    after = ref == "master"
    assert (found.version, found.dirty) == ("26.1.1.dev1" if after else "26.1.0", False)
    assert ("nova/api.py" in names(found)) is after
    assert not after or (found.directory / "nova" / "api.py").read_text() == "first = 1\n"


def test_a_repository_behind_a_url_is_fetched_once_and_brought_up_to_date(place: Path, tmp_path: Path) -> None:
    url = f"file://{place}"
    found = take(Given("nova", Kind.COMMIT, url, "master"), tmp_path / "copy")
    assert found.version == "26.1.1.dev1"
    git(place, "update-ref", "refs/changes/12/3412/1", commit(place))
    found = take(Given("nova", Kind.COMMIT, url, "refs/changes/12/3412/1"), tmp_path / "again")
    assert found.version == "26.1.1.dev2"


@pytest.mark.parametrize("url", [False, True])
def test_a_ref_that_does_not_exist_is_named_with_near_ones(place: Path, tmp_path: Path, url: bool) -> None:
    git(place, "branch", "stable/zed")
    with pytest.raises(RefusedError, match="has no branch, tag or commit 'stable/zde'; near ones: stable/zed"):
        take(Given("nova", Kind.COMMIT, f"file://{place}" if url else str(place), "stable/zde"), tmp_path / "copy")


def test_a_repository_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"file:///nowhere/nova cannot be fetched: .*does not exist|not appear"):
        take(Given("nova", Kind.COMMIT, "file:///nowhere/nova", "master"), tmp_path / "copy")


def test_a_source_distribution_says_its_own_version(tmp_path: Path) -> None:
    packed(make(tmp_path / "nova"), tmp_path, "nova-26.3.0")
    found = taken("nova-26.3.0.tar.gz", tmp_path)
    assert (found.version, found.commit) == ("26.3.0", "")
    assert "nova/cmd.py" in names(found)


def test_what_is_not_a_source_distribution_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nova-1.tar.gz").write_text("not packed")
    with pytest.raises(RefusedError, match=r"nova-1.tar.gz is not a source distribution"):
        taken("nova-1.tar.gz", tmp_path)


def test_a_member_that_leads_out_of_an_archive_is_refused(tmp_path: Path) -> None:
    place = make(tmp_path / "nova")
    (place / "out").symlink_to("/etc/passwd")
    packed(place, tmp_path, "nova-26.3.0")
    with pytest.raises(RefusedError, match="is not a source distribution"):
        taken("nova-26.3.0.tar.gz", tmp_path)


def test_a_tree_that_is_no_python_project_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "nova", files={"setup.cfg": ""})
    with pytest.raises(RefusedError, match=r"it has neither setup\.cfg nor pyproject.toml"):
        taken("nova", tmp_path)


def test_a_tree_that_changes_while_it_is_read_is_read_again_and_then_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, times = tree._copied, []

    def changing(place: Path, files: list[str], into: Path) -> bool:
        done = copied(place, files, into)
        times.append(into)
        if len(times) < changes:
            (place / "nova" / "api.py").write_text(f"first = {'1' * len(times)}0\n")
        return done

    monkeypatch.setattr(tree, "_copied", changing)
    changes = 3
    found = taken("nova", tmp_path)
    assert ((found.directory / "nova" / "api.py").read_text(), len(times)) == ("first = 110\n", 3)
    changes = 99
    times.clear()
    with pytest.raises(LabError, match="changed each of the 3 times that it was read"):
        taken("nova", tmp_path, "never")
    assert not (tmp_path / "never").exists()


def test_a_file_that_goes_while_it_is_read_is_a_change(place: Path, tmp_path: Path) -> None:
    assert tree._copied(place, ["setup.cfg", "gone.py"], tmp_path / "copy") is False


@pytest.mark.parametrize(
    ("described", "version"),
    [
        ("26.1.0-0-g1a2b3c4", "26.1.0"),
        ("26.1.0-12-g1a2b3c4", "26.1.1.dev12"),
        ("27.0.0.0rc1-0-g1a2b3c4", "27.0.0.0rc1"),
        ("27.0.0.0rc1-3-g1a2b3c4", "27.0.0.0rc1.dev3"),
        ("zed-eom-3-g1a2b3c4", ""),
        ("", ""),
    ],
)
def test_a_version_is_counted_from_the_tags_as_pbr_does(tmp_path: Path, described: str, version: str) -> None:
    assert Taken(tmp_path, described=described).version == version
