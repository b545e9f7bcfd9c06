"""APIs and dashboard inside Apache, where the base runs them there: facts 6.1, 6.3 and 6.10.

Each topic has its own file in Apache's directory, so no packaged file is edited.
"""

from __future__ import annotations

from labctl.operations.node import Command, Directory, File, Link, Operation
from labctl.services.base import Context

#: The packaged site runs a script in /usr/bin but grants no access there: 403 for every request (B17).
GRANT = """# Made by labctl; guide: nova install of rocky, controller node; rhbz#1430540; errata 0-12
<Directory /usr/bin>
  <IfVersion >= 2.4>
    Require all granted
  </IfVersion>
  <IfVersion < 2.4>
    Order allow,deny
    Allow from all
  </IfVersion>
</Directory>
"""


def keystone(ctx: Context) -> tuple[Operation, ...]:
    """The server's name and keystone's site."""
    directory = ctx.base.paths.get("httpd")
    if directory is None:
        return ()
    source = "guide: keystone install, configure the Apache HTTP server; facts 6.1"
    return (
        File(f"{directory}/00-labctl-name.conf", f"# Made by labctl\nServerName {ctx.identity_host}\n", source=source),
        Link(f"{directory}/wsgi-keystone.conf", ctx.base.paths["keystone-wsgi"]),
    )


def placement(ctx: Context, log: str, user: str) -> tuple[Operation, ...]:
    """The grant without which placement answers 403, and a log that its account can write.

    :param log: file that Apache would create as root (troubleshooting B18, errata 3-32).
    """
    directory = ctx.base.paths.get("httpd")
    if directory is None:
        return ()
    return (
        File(f"{directory}/00-labctl-placement.conf", GRANT, source="facts 6.3; troubleshooting B17"),
        Command(
            "placement owns its log",
            f"mkdir -p {log.rpartition('/')[0]} && {{ [ -e {log} ] || : >{log}; }} && "
            f"chown {user}:{user} {log} && chmod 0640 {log}",
            unless=f'[ "$(stat -c %U:%G {log})" = {user}:{user} ]',
            source="facts 6.3; troubleshooting B18",
        ),
    )


def site(ctx: Context, service: str, port: int, application: str) -> tuple[Operation, ...]:
    """An API for which RDO has no site of Apache's: a script, and the port that serves it.

    :param application: Python that makes ``application``.
    """
    directory = ctx.base.paths.get("httpd")
    if directory is None:
        return ()
    script, source = f"/var/www/cgi-bin/{service}/app", f"{service} documentation: mod_wsgi; telemetry 3"
    group = f"{service}-api"
    size = f"processes={ctx.lab.workers} threads={ctx.lab.threads}"
    text = f"""# Made by labctl
Listen {port}
<VirtualHost *:{port}>
  WSGIDaemonProcess {group} {size} user={service} group={service} display-name={group}
  WSGIProcessGroup {group}
  WSGIApplicationGroup %{{GLOBAL}}
  WSGIScriptAlias / {script}
  WSGIPassAuthorization On
  ErrorLog /var/log/httpd/{group}.log
</VirtualHost>
"""
    return (
        Directory(script.rpartition("/")[0]),
        File(script, f"# Made by labctl\n{application}\n", source=source),
        File(f"{directory}/10-labctl-{service}.conf", text, source=source),
    )


def dashboard(ctx: Context) -> tuple[Operation, ...]:
    """Horizon in Apache's main interpreter.

    Without it horizon can hang (facts 6.10), and each port by which it is asked, that of a forwarded one too, gets an
    interpreter of its own in the same processes, where cryptography, written in Rust, fails in all but the first:
    "PyO3 modules may only be initialized once per interpreter process".
    """
    path = ctx.base.paths.get("apache-group")
    if path is None:
        return ()
    text = "# Made by labctl; facts 6.10\nWSGIApplicationGroup %{GLOBAL}\n"
    return (File(path, text, source="guide: horizon install for Ubuntu and Red Hat; facts 6.10"),)
