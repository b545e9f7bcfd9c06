"""Worker counts of the APIs that run under uWSGI.

Distributions ship eight to sixteen processes per API for production hosts; nine APIs would be eighty
Python processes of 100 MB each. A lab sets its own small number in the package's ini file.
"""

from __future__ import annotations

from labctl.operations.node import Assign
from labctl.services.base import Context


def processes(ctx: Context, daemon: str) -> tuple[Assign, ...]:
    """Set processes and threads of an API's uWSGI files.

    An API that may use threads gets ``workers`` processes with ``threads`` each; one that may not has one
    thread, and twice as many processes if it is busy.

    uWSGI's http-socket closes every connection without announcing it, and a client that keeps the connection
    after a body-less answer gets "connection reset by peer"; devstack's uWSGI files set the same header.
    """
    lab, native = ctx.lab, daemon not in ctx.release.eventlet_apis
    return tuple(
        Assign(
            api.ini,
            (
                ("processes", str(lab.workers * (2 if api.busy or (api.threads and not native) else 1))),
                ("threads", str(lab.threads if api.threads and native else 1)),
                ("add-header", "Connection: close"),
            ),
            source="topology: options.workers and options.threads; devstack: add-header",
        )
        for api in ctx.base.wsgi
        if api.daemon == daemon
    )
