"""What makes projects from PyPI look like packages: accounts, commands, files, units."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from labctl import releases
from labctl.bases.debian_pypi import DEBIAN12_PYPI, DEBIAN13_PYPI
from labctl.errors import LabError
from labctl.host import process
from labctl.images import dashboard, pypi
from labctl.images.pypi_units import ACCOUNTS, DAEMONS, Account, Wsgi

TRAIN = releases.get("train")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other accounts, which needs root")

PASSWD = "root:x:0:0:root:/root:/bin/bash\nlibvirt-qemu:x:64055:106::/var/lib/libvirt:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nkvm:x:106:\nlibvirt:x:117:\nlibvirt-qemu:x:64055:libvirt-qemu\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A system layer with accounts and a few commands."""
    tree = tmp_path / "system/tree"
    write(tree / "etc/passwd", PASSWD)
    write(tree / "etc/group", GROUP)
    write(tree / "etc/shadow", "root:*:19000:0:99999:7:::\nlibvirt-qemu:!:19000::::::\n")
    write(tree / "etc/gshadow", "root:*::\nkvm:!::\nlibvirt:!::\nlibvirt-qemu:!::libvirt-qemu\n")
    (tree / "etc/shadow").chmod(0o640)
    write(tree / "usr/bin/swift", "")
    (tree / "etc/sudoers.d").mkdir(mode=0o750)
    (tree / "var/log").mkdir(parents=True)
    return tree.parent


def distribution(site: Path, name: str, version: str, *commands: str) -> None:
    """Install one: its commands, and the record of them."""
    for command in commands:
        write(site.parents[2] / "bin" / command, "#!/bin/sh\n")
    record = site / f"{name}-{version}.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    with record.open("w", newline="") as file:
        csv.writer(file).writerows([[f"../../../bin/{c}", "sha256=x", "1"] for c in commands])


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """A layer with nova and a client, and without anything else."""
    home = tmp_path / "projects/tree/opt/openstack/train"
    site = home / "lib/python3.7/site-packages"
    distribution(site, "nova", "20.6.1", "nova-api", "nova-manage", "nova-compute", "nova-rootwrap")
    distribution(site, "python_swiftclient", "3.8.1", "swift")
    distribution(site, "alembic", "1.1.0", "alembic")
    write(home / "etc/nova/api-paste.ini", "[composite:metadata]\n")
    write(home / "etc/nova/rootwrap.d/compute.filters", "[Filters]\n")
    return home.parents[3]


@pytest.fixture
def built(tmp_path: Path, system: Path, projects: Path) -> Path:
    """The uppermost layer's tree."""
    work = tmp_path / "work"
    work.mkdir()
    pypi._build(TRAIN, work, (system,), projects, ["nova"])
    return work / "tree"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@as_root
def test_a_project_gets_its_account_and_the_groups_it_needs(built: Path) -> None:
    assert "nova:x:162:162:OpenStack nova:/var/lib/nova:/usr/sbin/nologin" in lines(built / "etc/passwd")
    group = lines(built / "etc/group")
    assert group[0] == "root:x:0:"
    assert {"nova:x:162:", "kvm:x:106:nova", "libvirt:x:117:nova", "libvirt-qemu:x:64055:libvirt-qemu,nova"} <= {*group}
    assert "nova:!:19000::::::" in lines(built / "etc/shadow")
    assert (built / "etc/shadow").stat().st_mode & 0o777 == 0o640


@as_root
def test_only_what_is_installed_gets_accounts_and_units(built: Path) -> None:
    assert not [line for line in lines(built / "etc/passwd") if line.startswith("glance")]
    units = {p.name for p in (built / "usr/lib/systemd/system").iterdir()}
    assert units == {"openstack-nova-api.service", "openstack-nova-compute.service"}
    assert not (built / "etc/openstack-dashboard").exists()


@as_root
def test_an_api_that_has_a_module_for_uwsgi_is_served_by_it_though_it_has_a_command_too(
    tmp_path: Path, system: Path, projects: Path
) -> None:
    """Epoxy's has both; on Debian 13 labctl has two units for nova's APIs, and the command would serve both."""
    (home,) = projects.glob("tree/opt/openstack/*")
    write(next(home.glob("lib/python*/site-packages")) / "nova/wsgi/osapi_compute.py", "")
    (tmp_path / "work").mkdir()

    pypi._build(TRAIN, tmp_path / "work", (system,), projects, ["nova"])

    unit = tmp_path / "work/tree/usr/lib/systemd/system/openstack-nova-api.service"
    assert "ExecStart=/usr/bin/uwsgi --ini /etc/nova/nova-api-uwsgi.ini" in lines(unit)
    assert (tmp_path / "work/tree/etc/nova/nova-api-uwsgi.ini").exists()


@as_root
def test_a_user_that_a_system_package_made_under_the_name_gives_way(
    tmp_path: Path, system: Path, projects: Path
) -> None:
    with (system / "tree/etc/passwd").open("a") as passwd:
        passwd.write("nova:x:112:118::/var/lib/nova:/bin/bash\n")
    (tmp_path / "work").mkdir()

    pypi._build(TRAIN, tmp_path / "work", (system,), projects, ["nova"])

    found = [line for line in lines(tmp_path / "work/tree/etc/passwd") if line.startswith("nova:")]
    assert [line.split(":")[2] for line in found] == ["162"]


def test_a_number_that_is_taken_is_an_error(tmp_path: Path, system: Path) -> None:
    with (system / "tree/etc/group").open("a") as group:
        group.write("ceph:x:162:\n")

    with pytest.raises(LabError, match="nova cannot have id 162: in /etc/group it belongs to ceph"):
        pypi._accounts(tmp_path / "tree", (system,), [Account("nova", 162)])


@as_root
def test_directories_have_the_owners_that_packages_give_them(built: Path) -> None:
    def owner(path: str) -> tuple[int, int, int]:
        status = (built / path).stat()
        return status.st_uid, status.st_gid, status.st_mode & 0o777

    assert owner("etc/nova") == (0, 162, 0o750)
    assert owner("var/log/nova") == (162, 162, 0o750)
    assert owner("var/lib/nova/instances") == (162, 162, 0o755)
    # the system's own directory keeps its mode: the uppermost layer's counts in a node
    assert owner("etc/sudoers.d") == (0, 0, 0o750)


@as_root
def test_commands_are_on_the_path_unless_the_system_has_one_of_that_name(built: Path) -> None:
    found = {p.name: str(p.readlink()) for p in (built / "usr/bin").iterdir()}
    assert found["nova-manage"] == "/opt/openstack/train/bin/nova-manage"
    assert "swift" not in found  # the system's
    assert "alembic" not in found  # nobody's command but a library's


@as_root
def test_projects_files_are_where_rootwrap_and_paste_look(built: Path) -> None:
    assert (built / "etc/nova/api-paste.ini").exists()
    assert (built / "etc/nova/rootwrap.d/compute.filters").exists()
    sudoers = built / "etc/sudoers.d/nova"
    assert "nova ALL = (root) NOPASSWD: /usr/bin/nova-rootwrap /etc/nova/rootwrap.conf *" in lines(sudoers)
    assert sudoers.stat().st_mode & 0o777 == 0o440
    assert "d /run/lock/nova 0755 nova nova -" in lines(built / "usr/lib/tmpfiles.d/openstack.conf")


# --- tables ----------------------------------------------------------------------------------------


def test_the_base_and_the_image_name_the_same_units() -> None:
    units = [names for base in (DEBIAN12_PYPI, DEBIAN13_PYPI) for names in base.units.values()]
    theirs = {u for names in units for u in names if u.startswith(("openstack-", "neutron-", "gnocchi-"))}
    assert {d.unit for d in DAEMONS} == theirs


def test_the_base_and_the_image_name_the_same_files() -> None:
    files = {d.ini for d in DAEMONS if isinstance(d, Wsgi) and d.unit != "openstack-dashboard"}
    assert {api.ini for base in (DEBIAN12_PYPI, DEBIAN13_PYPI) for api in base.wsgi} == files
    assert DEBIAN12_PYPI.paths["horizon-url"] == dashboard.WEBROOT
    assert DEBIAN12_PYPI.paths["horizon"].startswith(f"{dashboard.DIRECTORY}/local_settings.d/")


def test_every_daemon_runs_as_an_account_and_no_two_share_a_number() -> None:
    assert {d.user for d in DAEMONS} <= {a.name for a in ACCOUNTS}
    assert len({a.number for a in ACCOUNTS}) == len(ACCOUNTS)


def test_log_files_are_those_of_the_centos_packages() -> None:
    started = {d.unit: line for d in DAEMONS for line in d.render().splitlines() if line.startswith("ExecStart=")}
    assert started["openstack-nova-api"] == "ExecStart=/usr/bin/nova-api --log-file /var/log/nova/nova-api.log"
    assert started["openstack-cinder-volume"].endswith("--log-file /var/log/cinder/volume.log")
    assert started["neutron-server"] == (
        "ExecStart=/usr/bin/neutron-server --config-file /etc/neutron/neutron.conf "
        "--config-file /etc/neutron/plugin.ini --log-file /var/log/neutron/server.log"
    )


def test_dnsmasq_and_haproxy_outlive_a_restart_of_their_agent() -> None:
    agents = [d for d in DAEMONS if d.unit in ("neutron-dhcp-agent", "neutron-l3-agent")]
    assert all("KillMode=process" in lines for lines in (a.render().splitlines() for a in agents))


@pytest.mark.skipif(bool(process.missing("systemd-analyze")), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_any_unit(tmp_path: Path) -> None:
    units = tmp_path / "usr/lib/systemd/system"
    for daemon in DAEMONS:
        text = daemon.render()
        write(units / f"{daemon.unit}.service", text)
        (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
        program = tmp_path / start.removeprefix("ExecStart=").split()[0].lstrip("/")
        write(program, "#!/bin/sh\n")
        program.chmod(0o755)
    for target in ("network", "multi-user", "sysinit", "basic", "shutdown", "syslog"):
        write(units / f"{target}.target", f"[Unit]\nDescription={target}\n")
    write(units / "libvirtd.service", "[Service]\nExecStart=/usr/bin/uwsgi\n")
    names = [f"{daemon.unit}.service" for daemon in DAEMONS]

    done = process.run(["systemd-analyze", f"--root={tmp_path}", "--man=no", "verify", *names], check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
