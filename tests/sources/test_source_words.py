"""What a word names: a tree, a commit, an archive, the release's own; and what it cannot name."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import LabError, RefusedError
from labctl.sources.given import Given, Kind, one_each, read

PROJECTS = ("keystone", "nova", "neutron")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "nova").mkdir()
    (tmp_path / "a@b").mkdir()
    (tmp_path / "nova-26.1.0.tar.gz").touch()
    (tmp_path / "nova.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("where", "kind", "ends", "ref"),
    [
        ("nova", Kind.TREE, "/nova", ""),
        ("./nova/", Kind.TREE, "/nova", ""),
        ("a@b", Kind.TREE, "/a@b", ""),
        ("nova@stable/zed", Kind.COMMIT, "/nova", "stable/zed"),
        ("nova@refs/changes/12/3412/5", Kind.COMMIT, "/nova", "refs/changes/12/3412/5"),
        ("nova-26.1.0.tar.gz", Kind.ARCHIVE, "/nova-26.1.0.tar.gz", ""),
        ("https://example.org/openstack/nova@master", Kind.COMMIT, "https://example.org/openstack/nova", "master"),
        ("https://me@example.org/nova@26.1.0", Kind.COMMIT, "https://me@example.org/nova", "26.1.0"),
        ("git@example.org:openstack/nova@stable/zed", Kind.COMMIT, "git@example.org:openstack/nova", "stable/zed"),
        ("ssh://me@example.org:29418/nova@1a2b3c", Kind.COMMIT, "ssh://me@example.org:29418/nova", "1a2b3c"),
        ("release", Kind.RELEASE, "", ""),
    ],
)
def test_a_word_is_read_as_people_mean_it(place: Path, where: str, kind: Kind, ends: str, ref: str) -> None:
    found = read(f"nova={where}", PROJECTS, place)
    assert (found.project, found.kind, found.ref) == ("nova", kind, ref)
    assert found.place.endswith(ends)
    assert read(found.text, PROJECTS, Path("/")) == found, "what is recorded names the same from anywhere"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nova", "'nova' is no source"),
        ("nova=", "'nova=' is no source"),
        ("nvoa=/tmp", "unknown project 'nvoa'; did you mean 'nova'?"),
        ("nova=elsewhere", "there is no .*/elsewhere"),
        ("nova=elsewhere@master", "there is no .*/elsewhere"),
        ("nova=nova.txt", "neither a directory nor an archive"),
        ("nova=https://example.org/nova", "names no branch, tag or commit"),
        ("nova=git@example.org:nova", "names no branch, tag or commit"),
    ],
)
def test_what_names_nothing_is_refused_with_the_reason(place: Path, word: str, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        read(word, PROJECTS, place)


def test_a_project_has_one_source() -> None:
    with pytest.raises(LabError, match="nova has 2 sources"):
        one_each([Given("nova", Kind.RELEASE), Given("keystone", Kind.RELEASE), Given("nova", Kind.RELEASE)])
