"""What labctl knows about an OpenStack release: named facts, and nothing else.

Services branch on these facts and never on a release's name or number. Train's file states all of them; every other
release states its differences from a similar one. Sources are the sections of docs/facts/releases.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class PackageSource(StrEnum):
    """Where a (release, base) pair gets OpenStack from."""

    RDO = "rdo"
    DEBIAN = "debian"
    PYPI = "pypi"


class Placement(StrEnum):
    """Where the placement service lives."""

    NONE = "none"  # before newton
    IN_NOVA = "in-nova"  # nova's own placement API, nova.conf [placement_database]
    PACKAGE = "package"  # the separate openstack-placement project


class VncNames(StrEnum):
    """Spelling of nova's [vnc] addresses; renamed in queens, the old names were removed in yoga."""

    VNCSERVER = "vncserver_"
    SERVER = "server_"


#: Project -> name of its distribution on PyPI, where the two differ.
DISTRIBUTIONS = {"placement": "openstack-placement", "heat": "openstack-heat"}
#: Project -> its optional parts that labctl configures.
PARTS = {"gnocchi": ("keystone", "mysql", "redis"), "aodh": ("mysql",)}
#: How many of a version's leading numbers each release raises, where it is not the first alone.
SERIES = {"swift": 2, "horizon": 2, "gnocchi": 2}


def same_series(project: str, known: str, version: str) -> bool:
    """True if a version of a project is of the release that has the known one."""
    series = known.split(".")[: SERIES.get(project, 1)]
    return version.split(".")[: len(series)] == series


def series(text: str) -> dict[str, str]:
    """Versions by project, from a text like ``keystone 16.0.2, glance 19.0.4``."""
    words = text.replace(",", " ").split()
    return dict(zip(words[::2], words[1::2], strict=True))


@dataclass(frozen=True)
class PyPI:
    """A release as its projects are published on the Python Package Index (docs/platform.md).

    The upper constraints of the release are in ``labctl/releases/constraints/RELEASE.txt``; releases from packages may
    have them too, for Tempest.
    """

    #: supported minor versions of CPython, the preferred one first: "3.7"
    python: tuple[str, ...]
    #: additional requirements, which override the upper constraints: "mock<4"
    extra: tuple[str, ...] = ()
    #: what installs them; setuptools 58 dropped 2to3, which packages of old releases run when they are built
    tools: tuple[str, ...] = ("pip>=21.3,<25", "setuptools<58", "wheel<0.44")
    #: constraints of what builds them, apart from the release's: "setuptools<81"
    build: tuple[str, ...] = ()
    #: the version of uWSGI
    uwsgi: str = "2.0.21"
    #: the release whose upper constraints it is installed with, where not its own
    constraints: str = ""


@dataclass(frozen=True)
class RDO:
    """A release as RDO packaged it for CentOS; it has moved from the mirrors to the vault (facts 2.2 to 2.4)."""

    #: the point release whose vault tree holds its repositories: "7.9.2009"
    point_release: str
    #: package with the repository files: "centos-release-openstack-train"
    release_package: str
    #: repository id -> path below that point release, for the repositories that a lab needs
    repositories: Mapping[str, str]
    #: ids of the release package's repositories that no lab needs
    unwanted: tuple[str, ...]
    #: SELinux mode: "enforcing" or "permissive"
    selinux: str
    #: package name in later releases -> name in this release
    renamed: Mapping[str, str]


@dataclass(frozen=True)
class Upgrade:
    """What is particular about coming to a release (modern 6.2); what every hop does is in labctl/plan/hop.py."""

    #: releases that it can follow: the one before, and the one of the SLURP jump
    after: tuple[str, ...]
    #: service types whose endpoints are no more
    removed_services: tuple[str, ...] = ()
    #: projects that no longer read a policy.json
    policy_yaml: tuple[str, ...] = ()
    #: roles that its keystone wants to be immutable, as its bootstrap makes them in a new cloud
    immutable_roles: tuple[str, ...] = ()
    #: (database, statement) that mends rows with which its migrations would fail; repeating it does no harm
    mended_rows: tuple[tuple[str, str], ...] = ()
    #: projects whose upgrade check itself is broken
    broken_checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """The facts of one release."""

    name: str
    title: str
    #: its number, by which it is known too, where it has one: "2025.1"
    number: str
    #: base name -> package source
    bases: Mapping[str, PackageSource]
    #: package source -> project -> version (matrix, section 1)
    versions: Mapping[PackageSource, Mapping[str, str]]
    #: what package source "pypi" installs; None for a release that is not built from PyPI
    pypi: PyPI | None
    #: how a lab comes to it from an earlier release, by its projects from PyPI; None where labctl cannot
    upgrade: Upgrade | None
    #: what package source "rdo" installs; None for a release that RDO did not build for CentOS 7 or 8
    rdo: RDO | None
    #: keystone's port for services and the administrator: a separate one until it was removed (section 5.3)
    identity_admin_port: int
    placement: Placement
    #: keystone-manage credential_setup exists (section 6.1)
    credential_keys: bool
    #: keystone's pipelines accept the admin_token until its filter is removed (mitaka)
    admin_token_filter: bool
    cells_v2: bool
    consoleauth: bool
    glance_registry: bool
    #: [keystone_authtoken] names the public endpoint www_authenticate_uri (from queens) or auth_uri
    authtoken_public_uri: str
    #: [DEFAULT] transport_url, or rpc_backend with [oslo_messaging_rabbit] (mitaka)
    transport_url: bool
    #: nova and cinder need service tokens (bug 2004555)
    service_token: bool
    #: users that other services know by the role "service"
    service_users: tuple[str, ...]
    #: keystone-manage bootstrap creates the role "service" itself
    service_role_bootstrapped: bool
    #: role of ordinary users, created by bootstrap or by the guide
    member_role: str
    member_role_bootstrapped: bool
    #: section of nova's auth_strategy: "api", "DEFAULT" (mitaka), or none where there is no such option
    nova_auth_strategy: str
    #: the newest microversion of its API
    nova_microversion: str
    #: nova has its own servers for its APIs, with options for them; later ones run under uWSGI only
    nova_api_servers: bool
    #: nova.conf has [scheduler] workers
    nova_scheduler_workers: bool
    #: nova's daemons sleep before they stop, busy or not: 160 s unless [DEFAULT] manager_shutdown_timeout says less
    nova_sleeps_to_stop: bool
    nova_use_neutron: bool
    nova_vnc_names: VncNames
    nova_neutron_url: bool
    #: nova gives away each processor 16 times and memory 1.5 times; later only 4 times and once
    nova_overcommits: bool
    #: nova passes the format of a backing file, which qemu-img from 6.1 on requires for an overlay
    nova_backing_format: bool
    neutron_allow_overlapping_ips: bool
    #: ml2's option for the types of projects' networks
    neutron_network_types: str
    #: [experimental] linuxbridge = true is needed (zed)
    linuxbridge_experimental: bool
    #: neutron's mechanism drivers that labctl installs, the documented one first (matrix, section 1)
    mechanisms: tuple[str, ...]
    neutron_metadata_host_key: str
    l3_interface_drivers: Mapping[str, str]
    #: l3 agent's external_network_bridge must be set to empty (mitaka)
    external_network_bridge_empty: bool
    cinder_api_versions: tuple[int, ...]
    cinder_target_prefix: str
    #: cinder.conf has [nova] with an account
    cinder_nova_account: bool
    #: volumes that are files on NFS can have snapshots
    cinder_nfs_snapshots: bool
    #: swift's pipeline has the copy filter
    swift_copy: bool
    #: swift has the S3 interface in its own tree
    #: (https://docs.openstack.org/releasenotes/puppet-swift/rocky.html)
    swift_s3: bool
    #: services that can tell the message bus of their resources: a context of theirs can be made without its
    #: credentials, which newer oslo.messaging leaves out (notifier.py, _sanitize_context)
    notifying: tuple[str, ...]
    #: heat's [trustee] names its plug-in auth_type or auth_plugin (mitaka)
    heat_trustee_plugin: str
    #: section of aodh's evaluation_interval
    aodh_evaluator_section: str
    #: the openstack command supports networks and volume services (section 9)
    client_networks: bool
    #: the openstack command reads multi-word commands from standard input (python-openstackclient 4)
    client_batch: bool
    #: Django's class of caches in memcached: Django 4.1 has no other
    django_cache: str
    #: endpoint template variable of the project id
    endpoint_project: str
    nova_endpoint_path: str
    #: requirements of the Tempest released for it: "tempest==22.1.0"; the upper constraints give all others
    tempest: tuple[str, ...]
    #: [identity] password_hash_rounds exists (from pike)
    password_hash_rounds: bool
    #: APIs whose module for uWSGI is patched by eventlet: with native threads they deadlock (modern 4.5)
    eventlet_apis: tuple[str, ...]
    #: oslo.log uses eventlet's locks even in processes with native threads (5.0.1; eventlet issue 432)
    green_log_locks: bool
    #: known failures of that Tempest on a correct lab, and why: its packages have changed since
    tempest_known: Mapping[str, str]

    @property
    def pins(self) -> Mapping[str, str]:
        """What package source "pypi" installs: distribution name of each project -> its version."""
        projects = self.versions.get(PackageSource.PYPI, {})
        return {DISTRIBUTIONS.get(project, project): version for project, version in projects.items()}

    @property
    def constraints(self) -> str:
        """The release whose upper constraints package source "pypi" installs it with."""
        return (self.pypi.constraints if self.pypi else "") or self.name

    @property
    def from_pypi(self) -> bool:
        """True if topologies get it from PyPI; another one's PyPI packages are only for upgrades."""
        return PackageSource.PYPI in self.bases.values()

    def python(self, source: PackageSource) -> str:
        """The interpreter on a node that runs the projects."""
        return f"{self.environment}/bin/python" if source is PackageSource.PYPI else "/usr/bin/python3"

    def includes(self, source: PackageSource, project: str, version: str) -> bool:
        """True if a version of a project is one of this release.

        From PyPI only the pinned one is; distributions update theirs within the release's series.
        """
        known = self.versions[source][project]
        if source is PackageSource.PYPI:
            return version == known
        return same_series(project, known, version)

    def has(self, project: str, source: PackageSource) -> bool:
        """True if labctl installs this project of the release from that package source."""
        return project in self.versions.get(source, {})

    @property
    def environment(self) -> str:
        """The virtual environment on a node into which package source "pypi" installs the release."""
        return f"/opt/openstack/{self.name}"
