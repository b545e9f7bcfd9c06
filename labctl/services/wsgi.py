"""Worker counts of the APIs that run under uWSGI.

Distributions ship eight to sixteen processes per API for production hosts; nine APIs would be eighty
Python processes of 100 MB each. A lab sets its own small number in the package's ini file.
"""

from __future__ import annotations

from labctl.plan.operations import Assign
from labctl.services.base import Context


def processes(ctx: Context, daemon: str) -> tuple[Assign, ...]:
    """Set processes and threads of an API's uWSGI files.

    uWSGI's http-socket closes every connection but does not say so, and a client that meant to keep it
    after a body-less answer sees "connection reset by peer"; devstack's uWSGI files carry the same header.
    """
    values = (
        ("processes", str(ctx.lab.workers)),
        ("threads", str(ctx.lab.threads)),
        ("add-header", "Connection: close"),
    )
    return tuple(
        Assign(w.ini, values, source="topology: options.workers and options.threads; devstack: add-header")
        for w in ctx.base.wsgi
        if w.daemon == daemon
    )
