"""Entering a lab's network namespace, where its addresses are reachable and its names resolve.

A socket stays in the namespace in which it was created, so there are three ways: a whole process enters (pytest),
a worker thread enters (API calls of the engine), or a short-lived thread creates one socket and hands it out
(SSH). ``os.setns`` exists only from Python 3.12, hence libc.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from labctl.errors import BrokenLabError

T = TypeVar("T")
NAMESPACES = Path("/run/netns")
_TRAIL = "LABCTL_OUTSIDE"
_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise BrokenLabError(f"{what}: {os.strerror(number)}", "entering a lab's namespace needs root")


def _enter_network(namespace: str) -> None:
    path, lab = NAMESPACES / namespace, namespace.removeprefix("labctl.").partition(".")[0]
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BrokenLabError(
            f"the network namespace of the lab {lab} does not exist: {path}", f"labctl repair {lab}"
        ) from error
    try:
        _checked(_libc().setns(handle, _CLONE_NEWNET), f"setns {path}")
    finally:
        os.close(handle)


def number(namespace: str) -> int:
    """The kernel's number of a namespace, which another of the same name does not have; 0: there is none."""
    try:
        return (NAMESPACES / namespace).stat().st_ino
    except FileNotFoundError:
        return 0


def _bind_hosts(hosts_file: Path) -> None:
    libc = _libc()
    _checked(libc.unshare(_CLONE_NEWNS), "unshare mount namespace")
    # slave: unmounts on the host propagate here, so this namespace never keeps a node's disk busy
    _checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "make mounts private")
    for source, target in (
        (hosts_file, "/etc/hosts"),
        (hosts_file.with_name("resolv.conf"), "/etc/resolv.conf"),
    ):
        if source.exists():
            _checked(libc.mount(str(source).encode(), target.encode(), None, _MS_BIND, None), f"bind {source}")


def enter(namespace: str, hosts_file: Path) -> None:
    """Move this thread (or the whole process, if single-threaded) into a lab's namespace, with its hosts file.

    :raises BrokenLabError: the namespace is gone, or this process is not root.
    """
    _enter_network(namespace)
    _bind_hosts(hosts_file)


def leave_trail() -> None:
    """Remember this process's namespaces before it enters a lab permanently; see :func:`outside`.

    Two files stay open until the process ends; its children inherit their names in the environment.
    """
    pid = os.getpid()
    handles = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
    os.environ[_TRAIL] = " ".join(f"/proc/{pid}/fd/{handle}" for handle in handles)


def outside(name: str, command: Sequence[str]) -> list[str]:
    """The command that runs another command outside the lab that this process, or a parent of it, has entered.

    Commands that change a lab must run there: mounts made inside are not visible outside.

    :raises BrokenLabError: :func:`leave_trail` was not called.
    """
    trail = os.environ.get(_TRAIL, "").split()
    if len(trail) != 2:
        raise BrokenLabError("this process cannot leave the lab's namespace", f"labctl test {name}")
    return ["nsenter", f"--net={trail[0]}", f"--mount={trail[1]}", "--", *command]


def connect(namespace: str, address: str, port: int, timeout: float) -> socket.socket:
    """Open a TCP connection inside the namespace; ``timeout`` in seconds.

    :raises OSError: the connection failed.
    :raises BrokenLabError: the namespace is gone.
    """
    made: list[socket.socket] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            _enter_network(namespace)
            made.append(socket.create_connection((address, port), timeout))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name=f"connect-{address}")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


class Inside:
    """Worker threads inside a lab's namespace; use as a context manager."""

    def __init__(self, namespace: str, hosts_file: Path, threads: int = 1) -> None:
        self._namespace, self._hosts_file = namespace, hosts_file
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="namespace")
        self._thread = threading.local()

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # after ^C do not wait for API responses
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function in the namespace; return its result or raise its error.

        :raises BrokenLabError: the namespace is gone, or this process is not root.
        """
        return self._pool.submit(self._run, function, *arguments).result()

    def map(self, function: Callable[..., T], arguments: list[object]) -> list[T]:
        """Map a function over arguments on all threads; raises as :meth:`call`."""
        return list(self._pool.map(lambda argument: self._run(function, argument), arguments))

    def _run(self, function: Callable[..., T], *arguments: object) -> T:
        """In a worker thread: enter once, then call. A pool's initializer could not report why it failed."""
        if not getattr(self._thread, "entered", False):
            enter(self._namespace, self._hosts_file)
            self._thread.entered = True
        return function(*arguments)
