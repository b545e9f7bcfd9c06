"""ssh's ProxyCommand with ProxyUseFdpass: connect in this process's namespace, and hand the connection over.

    ip netns exec NAMESPACE python -P -m labctl.host.handover ADDRESS PORT

It imports nothing else of labctl: it starts for every connection.
"""

from __future__ import annotations

import socket
import sys

#: Seconds until a node must have answered.
TIMEOUT = 20


def main() -> None:
    """Connect, and hand the connection to ssh, which is at the other end of the standard output."""
    address, port = sys.argv[1:3]
    try:
        made = socket.create_connection((address, int(port)), TIMEOUT)
    except OSError as error:
        sys.exit(f"{address}:{port}: {error}")
    made.setblocking(True)
    with made, socket.socket(fileno=1) as ssh:
        socket.send_fds(ssh, [b"\0"], [made.fileno()])


if __name__ == "__main__":
    main()
