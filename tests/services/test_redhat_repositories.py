"""Where nodes of Red Hat's family get packages: repositories, run for real where that is possible here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT, planned, specify, write

from labctl import bases, releases
from labctl.host import process
from labctl.operations.node import Command, flatten
from labctl.operations.script import program
from labctl.releases.model import RDO
from labctl.services import redhat
from labctl.services.base import Context
from labctl.services.redhat import repositories

TRAIN = ROOT / "topologies" / "train-2node.yaml"
RDO_RELEASES = [r for r in releases.RELEASES.values() if r.rdo]

#: Files as the system and the release packages drop them (facts 2.4): name -> text.
SHIPPED = {
    "CentOS-Base.repo": """# CentOS-Base.repo
[base]
name=CentOS-$releasever - Base
mirrorlist=http://mirrorlist.centos.org/?release=$releasever&arch=$basearch&repo=os&infra=$infra
#baseurl=http://mirror.centos.org/centos/$releasever/os/$basearch/
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7

[centosplus]
name=CentOS-$releasever - Plus
mirrorlist=http://mirrorlist.centos.org/?release=$releasever&arch=$basearch&repo=centosplus&infra=$infra
#baseurl=http://mirror.centos.org/centos/$releasever/centosplus/$basearch/
gpgcheck=1
enabled=0
""",
    "CentOS-Linux-PowerTools.repo": """[powertools]
name=CentOS Linux $releasever - PowerTools
mirrorlist=http://mirrorlist.centos.org/?release=$releasever&arch=$basearch&repo=PowerTools&infra=$infra
#baseurl=http://mirror.centos.org/$contentdir/$releasever/PowerTools/$basearch/os/
gpgcheck=1
enabled=0
""",
    "CentOS-OpenStack-mitaka.repo": """[centos-openstack-mitaka]
name=CentOS-7 - OpenStack mitaka
baseurl=http://mirror.centos.org/centos/7/cloud/$basearch/openstack-mitaka/
gpgcheck=1
enabled=1
exclude=sip,PyQt4
[centos-openstack-mitaka-test]
name=CentOS-7 - OpenStack mitaka Testing
baseurl=http://buildlogs.centos.org/centos/7/cloud/$basearch/openstack-mitaka/
gpgcheck=0
enabled=0
""",
    "CentOS-OpenStack-ussuri.repo": """[centos-openstack-ussuri]
name=CentOS-$releasever - OpenStack ussuri
mirrorlist=http://mirrorlist.centos.org/?release=$releasever&arch=$basearch&repo=cloud-openstack-ussuri
#baseurl=http://mirror.centos.org/$contentdir/$releasever-stream/cloud/$basearch/openstack-ussuri/
gpgcheck=1
enabled=1
module_hotfixes=1
[rdo-trunk-ussuri-tested]
name=OpenStack ussuri Trunk Tested
baseurl=https://trunk.rdoproject.org/centos8-ussuri/current-passed-ci/
gpgcheck=0
enabled=0
""",
    "CentOS-Ceph-Hammer.repo": """[centos-ceph-hammer]
name=CentOS-$releasever - Ceph Hammer
baseurl=http://mirror.centos.org/centos/$releasever/storage/$basearch/ceph-hammer/
enabled=1
""",
    "epel.repo": """[epel]
name=Extra Packages for Enterprise Linux 7
metalink=https://mirrors.fedoraproject.org/metalink?repo=epel-7&arch=$basearch
gpgcheck=1
""",
}
VAULT = "http://copy.example/centos"


def rewriting(release_name: str, base_name: str, directory: Path) -> Command:
    """The operation, with the node's directories below another one."""
    base, release = bases.get(base_name, "rdo"), releases.get(release_name)
    items = flatten(redhat.sources(base, release, VAULT, ("chrony",)))
    found = next(i for i in items if isinstance(i, Command) and i.title.endswith("before the release package"))
    awk = directory / "vault.awk"
    awk.write_text(next(i.content for i in items if getattr(i, "path", "") == repositories.AWK))
    (directory / "yum").write_text(f'#!/bin/sh\necho "$0 $*" >>{directory}/calls\n')
    (directory / "yum").chmod(0o755)

    def moved(text: str) -> str:
        text = text.replace(repositories.DIRECTORY, str(directory / "repos")).replace(repositories.AWK, str(awk))
        return re.sub(r"^(yum|dnf) ", f"{directory}/yum ", text, flags=re.MULTILINE)

    return Command(found.title, moved(found.run), moved(found.unless))


def rewritten(release_name: str, base_name: str, directory: Path) -> dict[str, str]:
    repos = directory / "repos"
    repos.mkdir()
    for name, text in SHIPPED.items():
        (repos / name).write_text(text)
    operation = rewriting(release_name, base_name, directory)
    states = [process.run(["sh", "-c", operation.shell()], check=False).returncode for _ in range(2)]
    assert states == [10, 0], "changed once, and then nothing to do"
    assert not list(repos.glob("*.labctl-new"))
    return {p.name: p.read_text() for p in repos.iterdir()}


def sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            found[line[1:-1]] = {}
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            assert key not in found[list(found)[-1]], f"{key} twice"
            found[list(found)[-1]][key] = value
    return found


@pytest.mark.parametrize(
    ("release", "base", "point"),
    [("mitaka", "centos7", "7.3.1611"), ("train", "centos7", "7.9.2009"), ("ussuri", "centos8", "8.2.2004")],
)
def test_repository_files_name_the_vault_and_no_mirror(release: str, base: str, point: str, tmp_path: Path) -> None:
    files = rewritten(release, base, tmp_path)
    for name, text in files.items():
        active = [line for line in text.splitlines() if not line.startswith("#")]
        assert not [line for line in active if re.match(r"mirrorlist=|metalink=|.*mirror\.centos\.org", line)], name
    prefix = f"{VAULT}/{point}"
    base_file = sections(files["CentOS-Base.repo"])
    assert base_file["base"]["baseurl"] == f"{prefix}/os/$basearch/"
    assert base_file["centosplus"]["enabled"] == "0"
    assert (
        sections(files["CentOS-OpenStack-mitaka.repo"])["centos-openstack-mitaka"]["baseurl"]
        == f"{prefix}/cloud/$basearch/openstack-mitaka/"
    )
    cloud = sections(files["CentOS-OpenStack-ussuri.repo"])
    assert cloud["centos-openstack-ussuri"]["baseurl"] == f"{prefix}/cloud/$basearch/openstack-ussuri/"
    assert cloud["centos-openstack-ussuri"]["module_hotfixes"] == "1"
    for name, section in (("mitaka", "centos-openstack-mitaka-test"), ("ussuri", "rdo-trunk-ussuri-tested")):
        assert sections(files[f"CentOS-OpenStack-{name}.repo"])[section]["enabled"] == "0"
    assert sections(files["epel.repo"])["epel"]["enabled"] == "0"
    assert sections(files["CentOS-Ceph-Hammer.repo"])["centos-ceph-hammer"]["enabled"] == (
        "0" if release == "mitaka" else "1"
    )
    assert sections(files["CentOS-Linux-PowerTools.repo"])["powertools"]["enabled"] == (
        "1" if base == "centos8" else "0"
    )
    assert (tmp_path / "calls").read_text().splitlines() == [f"{tmp_path}/yum clean all"]


def test_another_copy_of_the_vault_is_named_in_the_topology(tmp_path: Path) -> None:
    text = TRAIN.read_text().replace("options:\n", "options:\n  vault: http://copy.example/vault/\n")
    made = planned(specify(write(tmp_path, text), base="centos7"))
    (packages,) = (s for s in made.stages if s.name == "packages")
    said = program("packages", packages.nodes["controller"])
    assert "http://copy.example/vault/7.9.2009/cloud/x86_64/openstack-train/" in said
    assert "vault.centos.org" not in said


def test_an_address_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    base, release = bases.get("centos7", "rdo"), releases.get("train")
    items = flatten(redhat.sources(base, release, "http://127.0.0.1:1/vault", ("chrony",)))
    (look,) = (i for i in items if isinstance(i, Command) and i.title == "the vault answers")
    done = process.run(["sh", "-c", f"rpm() {{ return 1; }}\n{look.shell()}"], check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "http://127.0.0.1:1/vault/7.9.2009/os/x86_64/repodata/repomd.xml cannot be had",
        "name another copy of the vault in the topology: options: {vault: URL}",
    ]
    assert process.run(["sh", "-c", f"rpm() {{ :; }}\n{look.shell()}"], check=False).returncode == 0


@pytest.mark.parametrize("release", RDO_RELEASES, ids=lambda r: r.name)
def test_the_trees_of_a_release_are_those_of_the_facts(release: object) -> None:
    text = (ROOT / "docs/facts/releases.md").read_text()
    text = text[text.index("## 2. Repositories") : text.index("## 3. Media")]
    rdo: RDO = release.rdo  # type: ignore[attr-defined]
    for identifier, path in rdo.repositories.items():
        rows = [line for line in text.splitlines() if line.startswith(f"| {identifier} |")]
        assert any(f"/{path}/" in row for row in rows)
    assert re.search(rf"^\| {release.name}(?: \(el7\))? \| {rdo.release_package}\b", text, re.MULTILINE)  # type: ignore[attr-defined]


def test_known_keys_are_those_of_the_facts() -> None:
    text = (ROOT / "docs/facts/releases.md").read_text().replace(" ", "")
    for fingerprint in bases.get("centos7", "rdo").redhat.keys.values():  # type: ignore[union-attr]
        assert fingerprint in text


def test_nothing_is_asked_of_the_vault_once_the_packages_are_there(train: Context) -> None:
    items = flatten(redhat.sources(train.base, train.release, VAULT, ("chrony", "firewalld")))
    for item in items:
        if isinstance(item, Command) and re.search(r"curl|makecache|upgrade", item.run):
            assert item.unless == "rpm -q --whatprovides chrony firewalld"


def test_module_streams_and_exclusions_come_before_the_packages(ussuri: Context) -> None:
    items = flatten(redhat.sources(ussuri.base, ussuri.release, VAULT, ("chrony",)))
    titles = [i.title for i in items]
    assert titles.index("module stream mariadb:10.3") > titles.index("repositories on the vault, after it")
    assert "set excludepkgs in /etc/dnf/dnf.conf" in titles
    (stream,) = (i for i in items if i.title == "module stream mariadb:10.3")
    assert stream.guide() == "dnf -y module enable mariadb:10.3"
