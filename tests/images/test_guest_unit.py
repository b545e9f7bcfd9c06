"""The guest image without building it: downloads and checksums, the recipe's address, the DHCP script."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import CONTENT, Site, served
from support import ROOT

from labctl import progress
from labctl.errors import LabError
from labctl.host import process
from labctl.images import download, guest, guest_parts
from labctl.images.download import Digest

SCRIPTS = sorted(guest_parts.FILES.rglob("*.sh"))


@pytest.fixture
def site() -> Iterator[Site]:
    with served(suffix="0.5.1-x86_64-disk.img") as server:
        yield server


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setitem(guest.CIRROS, "0.5.1", Digest("sha256", hashlib.sha256(CONTENT).hexdigest()))


def fetch(*sites: str, to: Path, version: str = "0.5.1") -> guest.GuestImage | None:
    return guest.fetch_cirros(version, to, 10, sites=sites)


def test_cirros_is_downloaded_and_verified(site: Site, known: None, tmp_path: Path) -> None:
    image = fetch(site.url, to=tmp_path)

    assert image is not None
    assert image.path.read_bytes() == CONTENT
    assert image.path.name == "cirros-0.5.1-x86_64-disk.img"
    assert image.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert image.version == "0.5.1"
    assert image.origin.startswith("CirrOS 0.5.1 from 127.0.0.1")


def test_no_version_is_known_by_a_checksum_that_can_be_forged() -> None:
    assert {len(digest.value) for digest in guest.CIRROS.values() if digest.algorithm == "sha256"} == {64}
    assert {len(digest.value) for digest in guest.CIRROS.values() if digest.algorithm == "sha512"} == {128}
    assert {digest.algorithm for digest in guest.CIRROS.values()} == {"sha256", "sha512"}


def test_the_checksums_are_what_the_facts_say() -> None:
    text = (ROOT / "docs/facts/releases.md").read_text()
    rows = re.findall(r"^\| cirros-([\d.]+)-x86_64-disk\.img \|.* (SHA-\d+) ([0-9a-f]{64,128}) \|", text, re.MULTILINE)
    assert {version: f"{kind} {value}" for version, kind, value in rows} == {
        version: str(digest) for version, digest in guest.CIRROS.items()
    }


def test_tls_comes_first_and_where_it_does_not_get_through_the_checksum_is_enough(
    site: Site, known: None, tmp_path: Path
) -> None:
    assert [address.partition(":")[0] for address in guest.CIRROS_SITES] == ["https", "http"]
    said: list[str] = []
    with progress.subscribed(lambda event: said.append(event.text)):
        image = fetch(site.url.replace("http:", "https:"), site.url, to=tmp_path)
    assert image is not None
    assert image.path.read_bytes() == CONTENT
    assert any(line.startswith("https://127.0.0.1") and "cannot be downloaded: SSLError" in line for line in said)


def test_a_download_with_another_checksum_is_refused_and_removed(site: Site, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not 553d220ed58cfee7dafe003c446a9f19"):
        fetch(site.url, to=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_there_needs_no_network(site: Site, known: None, tmp_path: Path) -> None:
    first = fetch(site.url, to=tmp_path)
    again = fetch("http://127.0.0.1:1", to=tmp_path)

    assert first is not None
    assert again is not None
    assert again.sha256 == first.sha256


def test_a_damaged_image_is_downloaded_again(site: Site, known: None, tmp_path: Path) -> None:
    (tmp_path / "cirros-0.5.1-x86_64-disk.img").write_bytes(b"half")

    image = fetch(site.url, to=tmp_path)

    assert image is not None
    assert image.path.read_bytes() == CONTENT


def test_an_unknown_version_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LabError) as raised:
        fetch(to=tmp_path, version="9.9")

    assert "9.9" in raised.value.message
    assert "0.4.0, 0.5.1, 0.5.2, 0.6.2, 0.6.3" in raised.value.hint


def test_an_unreachable_site_is_no_error(tmp_path: Path) -> None:
    assert fetch("http://127.0.0.1:1", to=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_never_answers_costs_three_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert fetch(f"http://127.0.0.1:{silent.getsockname()[1]}", to=tmp_path) is None
    assert time.monotonic() - began < guest.CONNECT_SECONDS + 1


def test_a_site_without_the_file_is_no_error(site: Site, tmp_path: Path) -> None:
    assert fetch(site.url, to=tmp_path, version="0.6.2") is None


def test_a_download_that_breaks_off_is_gone_on_with_by_itself_and_by_the_next_call(
    site: Site, known: None, tmp_path: Path
) -> None:
    site.break_after = 1_200_000
    assert fetch(site.url, to=tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [".cirros-0.5.1-x86_64-disk.img.part"]
    assert len(site.asked) == download.ATTEMPTS

    site.break_after = None
    image = fetch(site.url, to=tmp_path)
    assert image is not None
    assert image.path.read_bytes() == CONTENT
    assert site.asked[-1][1] is not None


def test_the_recipe_digest_changes_with_the_guests_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = guest.recipe_digest()
    copy = tmp_path / "guest"
    shutil.copytree(guest_parts.FILES, copy)
    monkeypatch.setattr(guest_parts, "FILES", copy)
    monkeypatch.setattr(guest_parts, "__file__", str(shutil.copy(guest_parts.__file__, tmp_path)))
    assert guest.recipe_digest() == before

    (copy / "root/etc/issue.txt").write_text("another\n")
    assert guest.recipe_digest() != before


def test_the_recipe_digest_changes_with_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guest.recipe_digest()
    monkeypatch.setattr(guest, "BUILDER", "next")
    assert guest.recipe_digest() != before


def test_missing_host_packages_are_one_error_with_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LabError) as raised:
        guest.build(tmp_path / "images")

    assert "syslinux" in raised.value.message
    assert "mcopy" in raised.value.message
    assert raised.value.hint == (f"apt-get install -y --no-install-recommends {' '.join(guest.HOST_PACKAGES)}")


def test_ensure_uses_a_guest_of_this_recipe_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = guest.built_path(tmp_path)
    path.write_bytes(b"disk")
    built = guest.record(path)
    monkeypatch.setattr(guest, "fetch_cirros", lambda *_, **__: None)
    monkeypatch.setattr(guest, "build", lambda directory: pytest.fail("built again"))

    assert guest.ensure(tmp_path) == built


@pytest.mark.parametrize("change", ["disk", "recipe"])
def test_ensure_builds_when_disk_or_recipe_changed(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = guest.built_path(tmp_path)
    path.write_bytes(b"disk")
    fresh = guest.record(path)
    if change == "disk":
        path.write_bytes(b"damaged")
    else:
        monkeypatch.setattr(guest, "BUILDER", "next")
    monkeypatch.setattr(guest, "fetch_cirros", lambda *_, **__: None)
    built: list[Path] = []
    monkeypatch.setattr(guest, "build", lambda directory: built.append(directory) or fresh)

    guest.ensure(tmp_path)

    assert built == [tmp_path]


def test_a_guest_of_another_recipe_is_left_to_the_labctl_that_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: two checkouts with one home replaced each other's guest, and a lab uploaded the other's."""
    mine = guest.built_path(tmp_path)
    monkeypatch.setattr(guest, "BUILDER", "next")
    other, old = guest.built_path(tmp_path), tmp_path / "guest.qcow2"
    assert mine != other
    for path in (mine, old):
        path.write_bytes(b"disk")
    os.utime(old, (0, 0))
    guest._remove_old(tmp_path)
    assert (mine.exists(), old.exists()) == (True, False)


def test_packages_that_apt_cannot_find_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_parts, "KERNEL", "linux-image-of-no-archive")

    with pytest.raises(LabError) as raised:
        guest_parts.download(tmp_path / "debs")

    assert "No packages found" in raised.value.message
    assert "apt-get update" in raised.value.hint


def _udhcpc(tmp_path: Path, event: str, **told: str) -> tuple[list[str], str]:
    """Run the guest's DHCP script with an ``ip`` that writes down what it was asked."""
    calls, resolv = tmp_path / "calls", tmp_path / "resolv.conf"
    fake = tmp_path / "ip"
    fake.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n')
    fake.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RESOLV_CONF": str(resolv),
        "interface": "eth0",
        **told,
    }
    process.run(["sh", guest_parts.FILES / "root/usr/lib/guest/udhcpc.sh", event], env=environment)
    return calls.read_text().splitlines(), resolv.read_text() if resolv.exists() else ""


def test_dhcp_sets_address_mtu_classless_routes_and_resolver(tmp_path: Path) -> None:
    calls, resolv = _udhcpc(
        tmp_path,
        "bound",
        ip="10.1.0.7",
        mask="24",
        mtu="1450",
        router="10.1.0.254",
        staticroutes="169.254.169.254/32 10.1.0.2 192.168.9.0/24 0.0.0.0 0.0.0.0/0 10.1.0.1",
        dns="10.1.0.2 10.1.0.3",
        domain="openstacklocal",
    )

    assert "link set dev eth0 mtu 1450" in calls
    assert "addr add 10.1.0.7/24 brd + dev eth0" in calls
    assert "route replace 169.254.169.254/32 via 10.1.0.2 dev eth0 onlink" in calls
    assert "route replace 192.168.9.0/24 dev eth0 scope link" in calls
    assert "route replace 0.0.0.0/0 via 10.1.0.1 dev eth0 onlink" in calls
    assert not [call for call in calls if "10.1.0.254" in call]
    assert resolv == "search openstacklocal\nnameserver 10.1.0.2\nnameserver 10.1.0.3\n"


def test_dhcp_without_classless_routes_uses_the_router(tmp_path: Path) -> None:
    calls, _ = _udhcpc(tmp_path, "bound", ip="10.1.0.7", mask="24", router="10.1.0.1")

    assert "route replace default via 10.1.0.1 dev eth0 onlink" in calls
    assert not [call for call in calls if "mtu" in call]
    # busybox flushes the kernel's own route to the subnet with the rest
    assert not [call for call in calls if "route flush" in call]


@pytest.mark.skipif(bool(process.missing("shellcheck")), reason="shellcheck is not installed")
def test_ssh_answers_only_when_the_keys_are_there() -> None:
    """Tempest's test_reassign_port_between_servers moves a floating IP away from a server that still boots.

    A client that was answered there, and refused, holds the next server's host key for a forged one.
    """
    script = (ROOT / "labctl/images/guest/root/etc/init.d/rcS.sh").read_text()
    assert script.index("\n/usr/lib/guest/datasource") < script.index("\ndropbear -P")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_guests_scripts_pass_shellcheck(script: Path) -> None:
    process.run(["shellcheck", "-s", "sh", script])
