"""Ports of this machine's 127.0.0.1, or sockets in a directory, that lead into a lab's namespace.

Connections are made by threads inside the namespace, where the lab's names resolve; bytes are relayed out here. A SOCKS
port (RFC 1928: CONNECT, no authentication) leads wherever its client asks for, by name or address.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files
from labctl.host.namespace import Inside

LOOPBACK = "127.0.0.1"
#: Seconds until a service in the lab must have taken a connection; of a SOCKS client to say where it wants to.
CONNECT = 10.0
#: Threads that make connections in the namespace; ports that are tried in place of one that is taken.
THREADS, TRIED = 8, 100
_BLOCK = 1 << 16
#: Bytes of the longest path of a socket, without the end that unix(7) wants.
LONGEST = 107
#: SOCKS 5: what a client says first, and what it is answered; replies to its request.
HELLO, GREETING, _NO_METHOD = b"\5\1\0", b"\5\0", b"\5\xff"
_DONE, _REFUSED, _UNREACHABLE, _NO_COMMAND, _NO_KIND = 0, 5, 4, 7, 8

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, int], Coroutine[None, None, Streams]]


@dataclass(frozen=True)
class Target:
    """A port in the lab; without a host, wherever SOCKS clients ask for."""

    host: str = ""
    port: int = 0


def listen(port: int, above: int = TRIED) -> socket.socket:
    """Listen on a port of 127.0.0.1, or, if it is taken, on one of the next that is free.

    :raises LabError: so many above it are taken too.
    """
    for number in range(port, min(port + above, 65536)):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((LOOPBACK, number))
            made.listen(socket.SOMAXCONN)
            return made
        except OSError as error:
            made.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise LabError(f"no port from {port} on is free on {LOOPBACK}", "ss -ltn shows what listens")


@contextmanager
def directory(wanted: Path, names: Iterable[str]) -> Iterator[Path]:
    """A directory of this user's own for sockets of these names: the wanted one, unless their paths would be too long.

    Then it is a temporary one in /tmp, whatever TMPDIR says, removed when the block ends.
    """
    if max((len(os.fsencode(wanted / name)) for name in names), default=0) <= LONGEST:
        files.make_directories(wanted, 0o700)
        yield wanted
    else:
        with files.temporary(place=Path("/tmp")) as short:
            yield short


def listen_at(path: Path) -> socket.socket:
    """Listen on a socket in a directory of this user's own."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(socket.SOMAXCONN)
    return made


async def serve(
    inside: Inside, targets: Mapping[socket.socket, Target], ready: Callable[[], None], watch: Callable[[], None]
) -> None:
    """Relay connections from listening sockets to their targets, until cancelled or interrupted.

    :param ready: called when all accept connections.
    :param watch: called once a second; an exception it raises ends the relay.
    """
    connect = partial(_connect, inside)
    servers = [
        await asyncio.start_server(partial(_serve, connect, target), sock=listening)
        for listening, target in targets.items()
    ]
    ready()
    await asyncio.gather(_every_second(watch), *(server.serve_forever() for server in servers))


async def _every_second(watch: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        watch()


async def _connect(inside: Inside, host: str, port: int) -> Streams:
    loop = asyncio.get_running_loop()
    dial = partial(inside.call, socket.create_connection, (host, port), CONNECT)
    made = await loop.run_in_executor(None, dial)
    made.setblocking(False)
    return await asyncio.open_connection(sock=made)


async def _serve(connect: Connect, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection from its begin to its end."""
    try:
        if target.host:
            far = await connect(target.host, target.port)
        else:
            far = await asked(connect, reader, writer)
        await _relay((reader, writer), far)
    except (OSError, LabError, EOFError, TimeoutError):
        pass  # either side is gone, or was never there: its client sees the connection close
    finally:
        writer.close()


async def asked(connect: Connect, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams:
    """Answer a SOCKS client, and connect to where it wants.

    :raises EOFError: it is no such client, or has left.
    :raises OSError: that is not reached, which it was told.
    """
    async with asyncio.timeout(CONNECT):
        version, methods = await reader.readexactly(2)
        offered = await reader.readexactly(methods)
        if version != 5 or 0 not in offered:
            writer.write(_NO_METHOD)
            raise EOFError("no client of SOCKS 5 without authentication")
        writer.write(GREETING)
        _, command, _, kind = await reader.readexactly(4)
        host = await _address(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
    if command != 1 or not host:
        writer.write(_reply(_NO_COMMAND if command != 1 else _NO_KIND))
        raise EOFError("a command or a kind of address that is not served")
    try:
        far = await connect(host, port)
    except (OSError, LabError) as error:
        refused = isinstance(error, ConnectionRefusedError)
        writer.write(_reply(_REFUSED if refused else _UNREACHABLE))
        raise
    writer.write(_reply(_DONE))
    return far


async def _address(reader: asyncio.StreamReader, kind: int) -> str:
    """The host that a SOCKS client names; empty for a kind that does not exist."""
    if kind == 3:
        (length,) = await reader.readexactly(1)
        return (await reader.readexactly(length)).decode("ascii", "replace")
    if kind not in (1, 4):
        return ""
    return str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))


def _reply(status: int) -> bytes:
    return bytes((5, status, 0, 1)) + bytes(6)


async def _relay(near: Streams, far: Streams) -> None:
    """Copy both ways until both are done, or one breaks."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(near[0], far[1]))
            both.create_task(_copy(far[0], near[1]))
    except* OSError:
        pass
    finally:
        far[1].close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while block := await source.read(_BLOCK):
        sink.write(block)
        await sink.drain()
    with suppress(OSError):
        if sink.can_write_eof():
            sink.write_eof()
