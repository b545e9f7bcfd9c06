"""Installers' answers: kickstarts that Anaconda's own parser accepts, disks that read back as written."""

from __future__ import annotations

import io
import re
import tarfile
import warnings
from pathlib import Path

import pycdlib
import pytest
from pykickstart.parser import KickstartParser
from pykickstart.version import RHEL7, RHEL8, makeVersion

from labctl import bases, releases
from labctl.errors import LabError
from labctl.host import process
from labctl.images import installed, installer, iso, kickstart, media
from labctl.images.kickstart import Answers
from labctl.images.media import Medium
from labctl.releases.model import Release
from labctl.topology.model import VAULT

SYNTAX = {"centos7": RHEL7, "centos8": RHEL8}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey somebody"
#: Every release that RDO packaged, on its base, with every medium that installs it.
CASES = [
    (release, base, medium)
    for release in releases.RELEASES.values()
    if release.rdo
    for base in release.bases
    if (base, release.bases[base]) in bases.BASES and bases.get(base, release.bases[base]).redhat
    for medium in media.installers(base, release.rdo.point_release)
]
every_case = pytest.mark.parametrize(
    ("release", "base", "medium"), CASES, ids=[f"{r.name}-{m.name}" for r, _, m in CASES]
)


def answers(release: Release, base: str, medium: Medium, **more: object) -> Answers:
    return kickstart.anaconda(bases.get(base, "rdo"), release, medium, vault=VAULT, **more)  # type: ignore[arg-type]


def parse(text: str, base: str) -> KickstartParser:
    parser = KickstartParser(makeVersion(SYNTAX[base]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a deprecated command is a mistake too
        parser.readKickstartFromString(text)
    return parser


def test_every_release_of_rdo_has_a_medium() -> None:
    assert {r.name for r, _, _ in CASES} == {"mitaka", "rocky", "train", "ussuri"}


@every_case
def test_the_installers_own_parser_takes_the_kickstart(release: Release, base: str, medium: Medium) -> None:
    handler = parse(answers(release, base, medium, key=KEY).text, base).handler
    assert handler.clearpart.drives == ["vda"]
    assert [(p.mountpoint, p.fstype, p.grow) for p in handler.partition.partitions] == [("/", "xfs", True)]
    assert handler.timezone.timezone == "UTC"
    assert handler.network.network[0].device == kickstart.MAC
    assert handler.network.hostname == kickstart.HOST
    assert handler.rootpw.lock
    assert not handler.user.userList
    assert release.rdo is not None
    assert {1: "enforcing", 2: "permissive"}[handler.selinux.selinux] == release.rdo.selinux
    assert "sshd" in handler.services.enabled
    assert "console=ttyS0" in handler.bootloader.appendLine


@every_case
def test_a_medium_without_packages_gets_them_from_the_vault(release: Release, base: str, medium: Medium) -> None:
    handler = parse(answers(release, base, medium).text, base).handler
    assert release.rdo is not None
    if medium.packages:
        assert handler.method.method == "cdrom"
    else:
        assert handler.url.url.startswith(f"{VAULT}/{release.rdo.point_release}/")
    assert "mirror.centos.org" not in answers(release, base, medium).text


def test_a_network_installers_packages_come_from_another_copy_of_the_vault_when_one_is_named() -> None:
    medium = media.get("CentOS-7-x86_64-NetInstall-2009.iso")
    made = kickstart.anaconda(
        bases.get("centos7", "rdo"), releases.get("train"), medium, vault="http://copy.example/v/"
    )
    assert parse(made.text, "centos7").handler.url.url == "http://copy.example/v/7.9.2009/os/x86_64/"


@every_case
def test_scripts_of_a_kickstart_are_clean_shell(release: Release, base: str, medium: Medium, tmp_path: Path) -> None:
    scripts = parse(answers(release, base, medium, key=KEY).text, base).handler.scripts
    assert [s.errorOnFail for s in scripts] == [True, True, True]
    paths = []
    for number, script in enumerate(scripts):
        assert script.interp == "/bin/sh"
        paths.append(tmp_path / f"post{number}.sh")
        paths[-1].write_text("#!/bin/sh\n" + script.script)
        process.run(["sh", "-n", paths[-1]])
    process.run(["shellcheck", "-s", "sh", *paths])
    assert kickstart.MARKER in scripts[-1].script


def test_nobody_has_a_password_and_only_a_given_key_enters() -> None:
    case = CASES[0]
    with_key, without = answers(*case, key=KEY).text, answers(*case).text
    assert KEY in with_key
    assert "authorized_keys" not in without
    for text in (with_key, without):
        assert re.findall(r"^rootpw .*$", text, re.MULTILINE)[0].split()[1] == "--lock"


def test_the_same_questions_have_the_same_answers() -> None:
    assert answers(*CASES[0], program=b"x").files == answers(*CASES[0], program=b"x").files


def test_a_release_that_rdo_did_not_build_is_refused() -> None:
    with pytest.raises(LabError, match="RDO has no packages of Zed for CentOS 7"):
        kickstart.anaconda(bases.get("centos7", "rdo"), releases.get("zed"), CASES[0][2], vault=VAULT)


def test_an_installation_ends_with_the_repositories_and_every_package() -> None:
    """The program on the disk of answers: what `labctl plan` shows for the packages, for all components."""
    train = releases.get("train")
    packed = installed.program(bases.get("centos7", "rdo"), train, VAULT)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers()}  # type: ignore[union-attr]
    program = files["program.sh"]
    assert "centos-release-openstack-train" in program
    assert "files/usr/local/share/labctl/vault.awk" in files
    for package in ("openstack-placement-api", "openstack-nova-compute", "openstack-swift-object", "cloud-init"):
        assert package in program
    for package in ("openstack-nova-placement-api", "openstack-nova-console"):
        assert package not in program
    assert "openstack-nova-console" in installed.packages(bases.get("centos7", "rdo"), releases.get("rocky"))


# --- the disk of answers ---------------------------------------------------------------------------


def test_the_disk_of_answers_has_the_label_and_the_names_that_anaconda_looks_for(tmp_path: Path) -> None:
    made = answers(*CASES[0], program=b"archive")
    path = tmp_path / "answers.iso"
    path.write_bytes(iso.build(kickstart.LABEL, made.files))

    image = pycdlib.PyCdlib()
    image.open(str(path))
    assert image.pvd.volume_identifier.decode().strip() == "OEMDRV"
    for way in ("rr_path", "joliet_path"):
        for name, content in made.files.items():
            sink = io.BytesIO()
            image.get_file_from_iso_fp(sink, **{way: f"/{name}"})
            assert sink.getvalue() == content
    image.close()

    said = process.run(["xorriso", "-indev", path, "-pvd_info", "-find", "/", "-type", "f"])
    assert re.search(r"Volume Id\s*: OEMDRV$", said.stdout, re.MULTILINE)
    assert {line.strip("'") for line in said.stdout.splitlines() if line.startswith("'/")} == {
        f"/{name}" for name in made.files
    }


def test_making_the_disk_of_answers_takes_less_than_a_second() -> None:
    import time

    began = time.monotonic()
    iso.build(kickstart.LABEL, answers(*CASES[0], program=b"x" * 2**20).files)
    assert time.monotonic() - began < 1


def installation_iso(path: Path, label: str, rock_ridge: bool = True) -> Path:
    """A disc laid out like CentOS's, with a kernel and an initrd of a few bytes."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, vol_ident=label, **({"rock_ridge": "1.09"} if rock_ridge else {}))
    for iso_path, name in (("/IMAGES", "images"), ("/IMAGES/PXEBOOT", "pxeboot")):
        image.add_directory(iso_path, **({"rr_name": name} if rock_ridge else {}))
    for name in ("vmlinuz", "initrd.img"):
        content = f"the {name}".encode()
        image.add_fp(
            io.BytesIO(content),
            len(content),
            f"/IMAGES/PXEBOOT/{name.upper()}{'' if '.' in name else '.'};1",
            **({"rr_name": name} if rock_ridge else {}),
        )
    image.write(str(path))
    image.close()
    return path


@pytest.mark.parametrize(
    ("label", "escaped"), [("CentOS 7 x86_64", r"CentOS\x207\x20x86_64"), ("CentOS-8-2-2004-x86_64-dvd",) * 2]
)
def test_the_installer_is_booted_out_of_its_own_disc(label: str, escaped: str, tmp_path: Path) -> None:
    made = answers(*CASES[0])
    medium = installation_iso(tmp_path / "install.iso", label)
    work = tmp_path / "work"
    work.mkdir()
    boot = installer.anaconda(medium, made, work)
    assert boot.kernel.read_text() == "the vmlinuz"
    assert boot.initrd.read_text() == "the initrd.img"
    words = boot.arguments.split()
    assert f"inst.stage2=hd:LABEL={escaped}" in words
    assert "inst.ks=hd:LABEL=OEMDRV:/ks.cfg" in words
    assert "console=ttyS0,115200n8" in words
    assert boot.discs[0] == medium
    with iso.Reader(boot.discs[1]) as disc:
        assert disc.label == "OEMDRV"


def test_a_disc_that_is_no_installer_is_refused(tmp_path: Path) -> None:
    disc = tmp_path / "other.iso"
    disc.write_bytes(iso.build("DATA", {"a": b"1"}))
    with pytest.raises(LabError, match=r"other\.iso has no /images/pxeboot/vmlinuz"):
        installer.anaconda(disc, answers(*CASES[0]), tmp_path)
    disc.write_bytes(b"not an image")
    with pytest.raises(LabError, match=r"other\.iso is not an ISO image"):
        installer.anaconda(disc, answers(*CASES[0]), tmp_path)


# --- Debian ----------------------------------------------------------------------------------------


def test_the_preseed_names_the_machines_own_mirror_and_no_password() -> None:
    made = kickstart.preseed(bases.get("debian12", "debian"), "http://mirror.example:8080/debian", key=KEY)
    lines = made.text.splitlines()
    assert "d-i mirror/http/hostname string mirror.example:8080" in lines
    assert "d-i mirror/http/directory string /debian" in lines
    assert "d-i passwd/root-password-crypted password !" in lines
    (late,) = (line for line in lines if line.startswith("d-i preseed/late_command"))
    assert KEY in late
    assert kickstart.MARKER in late
    process.run(["sh", "-n"], stdin=late.partition(" string ")[2])
    with pytest.raises(LabError, match="needs an http mirror, not 'https'"):
        kickstart.preseed(bases.get("debian12", "debian"), "https://mirror.example/debian")


def test_a_preseed_is_what_debconf_can_read() -> None:
    made = kickstart.preseed(bases.get("debian12", "debian"), "http://mirror.example/debian")
    done = process.run(["debconf-set-selections", "--checkonly"], stdin=made.text, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_debians_initrd_holds_the_answers_in_its_root(tmp_path: Path) -> None:
    netboot = tmp_path / "netboot"
    netboot.mkdir()
    (netboot / "linux").write_bytes(b"kernel")
    (netboot / "initrd.gz").write_bytes(b"")
    made = Answers("preseed.cfg", {"preseed.cfg": b"d-i a/b string c\n", "more": b"x" * 5})
    boot = installer.debian(made, tmp_path, netboot)
    assert boot.kernel.read_bytes() == b"kernel"
    root = tmp_path / "root"
    root.mkdir()
    process.run(["sh", "-c", f"gzip -dc {boot.initrd} | cpio -i --quiet"], cwd=root)
    assert {p.name: p.read_bytes() for p in root.iterdir()} == made.files
    with pytest.raises(LabError, match="linux is missing") as raised:
        installer.debian(made, tmp_path, tmp_path / "nowhere")
    assert raised.value.hint == "apt-get install debian-installer-12-netboot-amd64"


# --- media that are not there ----------------------------------------------------------------------


def test_a_missing_medium_is_told_with_a_base_that_works_without() -> None:
    with pytest.raises(LabError) as raised:
        installed.ensure(bases.get("centos7", "rdo"), releases.get("train"))
    assert "CentOS-7-x86_64-Minimal-2009.iso" in raised.value.message
    assert "07b94e6b1a0b0260b94c83d6bb76b26bf7a310dc78d7a9c7432809fb9bc6194a" in raised.value.message
    assert "http://vault.centos.org/7.9.2009/isos/x86_64/" in raised.value.message
    assert "--base debian12" in raised.value.hint
