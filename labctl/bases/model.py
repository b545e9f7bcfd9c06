"""What labctl knows about an operating system and its OpenStack packages: names and paths, no release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from labctl.components import Component
from labctl.releases.model import PackageSource

#: Seconds for a unit to start, on a node as fast as the host.
START_SECONDS = 300


@dataclass(frozen=True)
class WsgiApi:
    """An API that runs under uWSGI: its daemon, and the file with its process count.

    ``threads`` is false where eventlet patches the standard library, or oslo.log takes its locks from eventlet:
    green threads cannot be switched between native ones, and such an API deadlocks when two requests
    meet ("greenlet.error: cannot switch to a different thread").
    """

    daemon: str
    ini: str
    threads: bool
    #: called by every action of guests and by other services, so one slow request must not block it
    busy: bool = False


@dataclass(frozen=True)
class RedHat:
    """Additional facts of an operating system of Red Hat's family: facts 2, 4.1 and 8."""

    #: repository id -> its path below a point release of the vault
    repositories: Mapping[str, str]
    #: repositories that are disabled by default and must be enabled; ids are case-insensitive
    enabled: tuple[str, ...]
    #: module streams to enable before the first package
    modules: tuple[str, ...]
    #: the package manager's file, its option, and the packages to exclude
    excluded: tuple[str, str, tuple[str, ...]] | None
    #: key file below /etc/pki/rpm-gpg -> fingerprint, where it is known
    keys: Mapping[str, str]
    #: SELinux booleans to turn on that openstack-selinux leaves off
    booleans: tuple[str, ...]


@dataclass(frozen=True)
class Base:
    """Names and paths of one (operating system, package source) pair."""

    name: str
    title: str
    family: str
    #: where OpenStack itself comes from
    source: PackageSource
    #: suite or point release of the mirror
    suite: str
    #: packages every node has
    common_packages: tuple[str, ...]
    #: component -> packages
    packages: Mapping[Component, tuple[str, ...]]
    #: back end -> packages of neutron's L2 agent
    l2_packages: Mapping[str, tuple[str, ...]]
    #: daemon (the project's own name for it) -> units
    units: Mapping[str, tuple[str, ...]]
    #: named configuration paths that differ between operating systems
    paths: Mapping[str, str]
    #: APIs under uWSGI, whose worker counts are in ini files
    wsgi: tuple[WsgiApi, ...]
    #: every unit that must not run before it is configured
    openstack_units: tuple[str, ...]
    #: system units that a lab never wants
    unwanted_units: tuple[str, ...]
    #: layers of labctl's own images: the system; the operating system's own services, the same for every release; and
    #: the units of these services
    system_packages: tuple[str, ...] = ()
    service_packages: tuple[str, ...] = ()
    service_units: tuple[str, ...] = ()
    #: its packages' units start database, messaging and keystone beside them, whatever the node is for
    units_start_services: bool = False
    #: variables of all daemons and sessions
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Open vSwitch's own datapath tunnels what offloads have left unfinished (3.5; earlier ones drop it)
    userspace_tunnels: bool = False
    #: qemu-img requires the format of the backing file for an overlay (QEMU 6.1 and later)
    backing_format: bool = False
    #: the package manager's command
    installer: str = "apt-get"
    #: daemon, or part of one -> packages, for what only some releases or labs have
    daemon_packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: flags supported by Erlang's emulator to turn off busy waiting in its schedulers
    erlang_quiet: str = "+sbwt none +sbwtdcpu none +sbwtdio none"
    #: lines of MariaDB's section [mysqld] that only this base's version needs
    mariadb: Mapping[str, str] = field(default_factory=dict)
    #: rabbitmqctl reads a password that is no argument of it (3.7.16 and later), so no list of processes shows it
    rabbitmq_reads_password: bool = True
    #: its systemd needs what the host's kernel does not have, so it cannot run in a container
    own_kernel: bool = False
    #: facts that only this family has
    redhat: RedHat | None = None

    @cached_property
    def shared_units(self) -> frozenset[str]:
        """Units that run several daemons, as Apache does when it serves the APIs."""
        times = Counter(unit for names in self.units.values() for unit in names)
        return frozenset(unit for unit, count in times.items() if count > 1)

    def unit(self, daemon: str) -> str:
        """The unit of a daemon that has only one."""
        return self.units[daemon][0]
