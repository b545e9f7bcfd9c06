"""horizon: facts 6.10 and the horizon install guide of each release."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.node import Command, File, Operation
from labctl.services import httpd
from labctl.services.base import Chapter, Context, Daemon, http_ready
from labctl.topology.spec import NodeSpec


def settings(ctx: Context) -> str:
    """The lab's local settings: where keystone is, sessions in memcached, any host name."""
    host = ctx.host(Component.HORIZON)
    policies = ""
    if directory := ctx.base.paths.get("horizon-policy"):
        policies = f'# facts 6.10: where the package keeps the policies\nPOLICY_FILES_PATH = "{directory}"\n'
    return f"""# Made by labctl; guide: horizon install; facts 6.10
OPENSTACK_HOST = "{ctx.identity_host}"
ALLOWED_HOSTS = ["*"]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {{
    "default": {{
        "BACKEND": "django.core.cache.backends.memcached.{ctx.release.django_cache}",
        "LOCATION": "{ctx.memcached}",
    }}
}}
# facts 6.10: keystone's root is at :5000, not at /identity as the guides print
OPENSTACK_KEYSTONE_URL = "{ctx.auth_url}/v3"
OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT = True
OPENSTACK_KEYSTONE_DEFAULT_DOMAIN = "Default"
OPENSTACK_KEYSTONE_DEFAULT_ROLE = "{ctx.release.member_role}"
OPENSTACK_API_VERSIONS = {{"identity": 3, "image": 2, "volume": {max(ctx.release.cinder_api_versions)}}}
TIME_ZONE = "UTC"
WEBROOT = "{ctx.base.paths["horizon-url"]}/"
LOGIN_URL = WEBROOT + "auth/login/"
LOGOUT_URL = WEBROOT + "auth/logout/"
LOGIN_REDIRECT_URL = WEBROOT
{policies}# served by {host}
"""


class Horizon(Chapter):
    name = "horizon"
    components = (Component.HORIZON,)
    words = {
        "en": ("Dashboard: horizon", "The web interface."),
        "ko": ("대시보드: horizon", "웹 인터페이스."),
    }
    ports = {Component.HORIZON: ("80/tcp", "443/tcp")}
    logs = ("apache2", "httpd")
    tempest = True

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.HORIZON):
            return ()
        made: list[Operation] = [
            File(ctx.base.paths["horizon"], settings(ctx), source="guide: horizon install; facts 6.10")
        ]
        if main := ctx.base.paths.get("horizon-main"):
            own = ctx.base.paths["horizon"]
            made.append(
                Command(
                    f"{main} ends with the lab's settings",
                    f"echo \"exec(open('{own}').read())\" >>{main}",
                    unless=f"grep -qF \"open('{own}')\" {main}",
                    source="labctl: the packaged file stays as it is; what is set last is what Django reads",
                )
            )
        made += httpd.dashboard(ctx)
        if site := ctx.base.paths.get("apache-ssl-site"):
            made.append(
                Command(
                    "no TLS site without its module",
                    f"rm {site}",
                    unless=f"[ ! -e {site} ] || [ -e /etc/apache2/mods-enabled/ssl.load ]",
                    source="Debian: openstack-dashboard-apache enables a TLS site, but not mod_ssl",
                )
            )
        return tuple(made)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.HORIZON):
            return ()
        url = f"http://127.0.0.1{ctx.base.paths['horizon-url']}/auth/login/"
        return (Daemon("apache", (http_ready("horizon", url),)),)
