"""What labctl knows about an operating system and its OpenStack packages: names and paths, no release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.components import Component
from labctl.releases.model import PackageSource


@dataclass(frozen=True)
class WsgiApi:
    """An API that runs under uWSGI: its daemon, the file that holds its process count.

    ``threads`` is false where eventlet patches the standard library, or oslo.log takes its locks from eventlet:
    green threads cannot be switched between native ones, and such an API locks up for good when two requests
    meet ("greenlet.error: cannot switch to a different thread").
    """

    daemon: str
    ini: str
    threads: bool
    #: asked by guests' every step and by other services, so one slow request must not hold it up
    busy: bool = False


@dataclass(frozen=True)
class RedHat:
    """What an operating system of Red Hat's family has besides: facts 2, 4.1 and 8."""

    #: repository id -> its path below a point release of the vault
    repositories: Mapping[str, str]
    #: repositories that are off as shipped and must be on; ids are compared without case
    enabled: tuple[str, ...]
    #: module streams to enable before the first package
    modules: tuple[str, ...]
    #: file of the package manager and its option -> packages that it must not take
    excluded: tuple[str, str, tuple[str, ...]] | None
    #: key file below /etc/pki/rpm-gpg -> fingerprint, where it is known
    keys: Mapping[str, str]
    #: SELinux booleans that openstack-selinux leaves off
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
    #: every unit that must not run before it has been configured
    openstack_units: tuple[str, ...]
    #: units of the system that a lab never wants
    unwanted_units: tuple[str, ...]
    #: what labctl's own images are made of in layers: the system; services of the operating system itself, which every
    #: release has; and the units of these
    system_packages: tuple[str, ...] = ()
    service_packages: tuple[str, ...] = ()
    service_units: tuple[str, ...] = ()
    #: qemu-img makes no overlay without the format of its backing file (QEMU 6.1 and later)
    backing_format: bool = False
    #: the package manager, as people type it
    installer: str = "apt-get"
    #: daemon -> packages, where only some releases have the daemon
    daemon_packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: scheduler busy waiting of Erlang's emulator, off in the words it knows
    erlang_quiet: str = "+sbwt none +sbwtdcpu none +sbwtdio none"
    #: its systemd needs what the host's kernel does not have: no container runs it
    own_kernel: bool = False
    #: facts that only this family has
    redhat: RedHat | None = None

    def unit(self, daemon: str) -> str:
        """The unit that runs a daemon of which there is one."""
        return self.units[daemon][0]
