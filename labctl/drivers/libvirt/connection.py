"""The libvirt connection of this process; libvirt's errors become labctl's."""

from __future__ import annotations

import atexit
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from labctl.drivers.libvirt import daemon
from labctl.drivers.libvirt.domain import PREFIX, Mark, read_mark
from labctl.errors import BrokenLabError, LabError

T = TypeVar("T")
DEFAULT_URI = "qemu:///system"
_HINTS = {
    "Permission denied": "the same command with sudo, or usermod --append --groups libvirt USER and log in again",
    "authentication": "the same command with sudo, or usermod --append --groups libvirt USER and log in again",
    "No such file or directory": "labctl doctor",
}


def uri() -> str:
    """The URI to use: ``LIBVIRT_DEFAULT_URI`` as for virsh, else the system's own."""
    return os.environ.get("LIBVIRT_DEFAULT_URI") or DEFAULT_URI


def library() -> Any:
    """The module ``libvirt``, which needs the system's library.

    :raises LabError: it is not installed.
    """
    try:
        import libvirt
    except ImportError as error:
        raise LabError(
            "the driver libvirt needs Python's libvirt module, which is not installed",
            "apt-get install libvirt-dev pkg-config gcc; make venv",
        ) from error
    return libvirt


def installed() -> bool:
    """True when Python's libvirt module is installed."""
    return importlib.util.find_spec("libvirt") is not None


class Connection:
    """A connection to one libvirt, opened on first use and reopened when it breaks."""

    def __init__(self, wanted: str) -> None:
        self.uri = wanted
        self._lock = threading.Lock()
        self._handle: Any = None
        self._hold: IO[str] | None = None
        atexit.register(self._leave)  # libvirt's own finalizer comes when its module is gone

    def get(self) -> Any:
        """The open connection.

        :raises LabError: libvirt does not answer, or refuses access.
        """
        with self._lock:
            libvirt = library()
            if self._handle is not None:
                try:
                    self._handle.getLibVersion()  # isAlive() does not notice a restarted libvirtd
                    return self._handle
                except libvirt.libvirtError:
                    self._handle = None
            libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised, not also printed
            if self.uri == DEFAULT_URI:
                self._hold = self._hold or daemon.hold()
                daemon.ensure()
            with translated(f"libvirt at {self.uri}"):
                self._handle = libvirt.open(self.uri)
            return self._handle

    def _leave(self) -> None:
        """At this process's end: the last one of several that used labctl's libvirtd stops it."""
        held = self._hold is not None
        with suppress(LabError):
            self.close()
        if held and daemon.started_here():
            daemon.end(_no_machine, seconds=0)

    def close(self) -> None:
        """Close the connection; autodestroy domains end with it."""
        with self._lock:
            if self._handle is not None:
                handle, self._handle = self._handle, None
                with translated(f"libvirt at {self.uri}"):
                    handle.close()
            if self._hold is not None:
                self._hold.close()
                self._hold = None

    @property
    def idle(self) -> bool:
        """True when no libvirtd is running and none has left a machine behind."""
        return self.uri == DEFAULT_URI and not daemon.answers() and not any(daemon.STATE.glob(f"{PREFIX}*.xml"))

    @property
    def is_here(self) -> bool:
        """True for a libvirt on this machine, with the same files and network cards."""
        parts = urlsplit(self.uri)
        return not parts.hostname or parts.hostname in ("localhost", "127.0.0.1", "::1", os.uname().nodename)

    def domains(self) -> list[Any]:
        """All running and paused domains."""
        if self.idle:
            return []
        with translated("libvirt"):
            return list(self.get().listAllDomains(library().VIR_CONNECT_LIST_DOMAINS_ACTIVE))

    def labs_domains(self) -> list[tuple[Mark, Any]]:
        """Domains that are machines of labs, with their marks."""
        found = []
        for domain in self.domains():
            if domain.name().startswith(PREFIX) and (description := asked(domain.XMLDesc)):
                mark = read_mark(description)
                found += [(mark, domain)] if mark is not None else []
        return found

    def find(self, name: str) -> Any | None:
        """The domain with a name, or None."""
        if self.idle:
            return None
        libvirt = library()
        try:
            return self.get().lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise failure(f"domain {name}", error) from error


_connections: dict[str, Connection] = {}


def meant() -> Connection:
    """This process's connection to the libvirt at :func:`uri`."""
    return _connections.setdefault(uri(), Connection(uri()))


def release() -> list[str]:
    """Stop the libvirtd that labctl started, if no machine is left on it; returns what did not end."""
    connection = meant()
    if connection.uri != DEFAULT_URI or not daemon.started_here() or connection.domains():
        return []
    connection.close()
    return daemon.end(_no_machine)


def _no_machine() -> bool:
    return not any(daemon.STATE.glob("*.xml"))


def asked(question: Callable[..., T], *arguments: object) -> T | None:
    """The result of a domain method; None when the domain is gone."""
    libvirt = library()
    try:
        return question(*arguments)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            return None
        raise failure("libvirt", error) from error


def failure(what: str, error: Exception) -> LabError:
    """Convert libvirt's error to labctl's."""
    text = str(error)
    hint = next((hint for words, hint in _HINTS.items() if words in text), "virsh list --all; labctl doctor")
    return BrokenLabError(f"{what}: {text}", hint)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise libvirt's errors as labctl's."""
    libvirt = library()
    try:
        yield
    except libvirt.libvirtError as error:
        raise failure(what, error) from error
