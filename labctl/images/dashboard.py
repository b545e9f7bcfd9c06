"""horizon from the Python Package Index: its settings, its static files, and how it is served.

RDO's package collects and compresses the static files while it is built, and so does the image: a node
has neither the compiler of the style sheets' time nor the minute it takes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from labctl.images.chroot import Chroot

PROJECT = "horizon"
WEBROOT = "/dashboard"
DIRECTORY = "/etc/openstack-dashboard"
STATE = "/var/lib/horizon"
_DJANGO = ("-m", "django")
_SETTINGS = "--settings=openstack_dashboard.settings"


def settings(environment: str) -> str:
    """local_settings.py: what holds for every lab; the lab's own file in local_settings.d comes after it."""
    return f'''# Made by labctl, after local_settings.py.example
from horizon.utils import secret_key

DEBUG = False
WEBROOT = "{WEBROOT}/"
STATIC_ROOT = "{environment}/share/openstack-dashboard/static"
COMPRESS_OFFLINE = True
SECRET_KEY = secret_key.generate_or_read_from_file("{STATE}/secret-key")
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {{"line": {{"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}}}},
    "handlers": {{"console": {{"class": "logging.StreamHandler", "formatter": "line"}}}},
    "root": {{"handlers": ["console"], "level": "INFO"}},
}}
'''


def uwsgi(environment: str) -> str:
    """What uWSGI serves: the application at its path, and below that path files that need no Python."""
    return f"""manage-script-name = true
mount = {WEBROOT}=openstack_dashboard.wsgi:application
static-map = /static={environment}/share/openstack-dashboard/static
"""


def collect(inside: Chroot, environment: str, made: Path) -> None:
    """Link the settings to /etc and make the static files.

    :param inside: a system with the environment, where a bind shows the settings.
    :param made: where the environment is on this machine.
    """
    local = next(made.glob("lib/python*/site-packages/openstack_dashboard/local"))
    shutil.rmtree(local / "local_settings.d")
    for name in ("local_settings.py", "local_settings.d"):
        (local / name).symlink_to(f"{DIRECTORY}/{name}")
    inside.run("mkdir", "-p", f"{DIRECTORY}/local_settings.d", STATE, timeout=10)
    python = f"{environment}/bin/python"
    inside.run(python, *_DJANGO, "collectstatic", "--noinput", _SETTINGS, timeout=300)
    inside.run(python, *_DJANGO, "compress", "--force", _SETTINGS, timeout=900)
    inside.run(python, *_DJANGO, "check", _SETTINGS, timeout=300)
