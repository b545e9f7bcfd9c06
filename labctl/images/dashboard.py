"""horizon: its static files; for releases from PyPI also its settings and its uWSGI application.

RDO's package collects and compresses the static files while it is built, and so does the image: it would take a
minute on each node.
"""

from __future__ import annotations

from pathlib import Path

from labctl.host import files, process
from labctl.images.chroot import Chroot
from labctl.releases.model import Release

PROJECT = "horizon"
WEBROOT = "/dashboard"
DIRECTORY = "/etc/openstack-dashboard"
STATE = "/var/lib/horizon"
_DJANGO = ("-m", "django")
_SETTINGS = "--settings=openstack_dashboard.settings"


def settings(release: Release) -> str:
    """local_settings.py: the settings for all labs; the lab's own file in local_settings.d is read after it."""
    environment = release.environment
    # the default asks memcached, which nothing answers while an image is built; python-memcached does not mind
    local = 'CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}\n'
    caches = local if release.django_cache == "PyMemcacheCache" else ""
    return f'''# Made by labctl, after local_settings.py.example
from horizon.utils import secret_key

DEBUG = False
WEBROOT = "{WEBROOT}/"
STATIC_ROOT = "{environment}/share/openstack-dashboard/static"
COMPRESS_OFFLINE = True
{caches}SECRET_KEY = secret_key.generate_or_read_from_file("{STATE}/secret-key")
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {{"line": {{"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}}}},
    "handlers": {{"console": {{"class": "logging.StreamHandler", "formatter": "line"}}}},
    "root": {{"handlers": ["console"], "level": "INFO"}},
}}
'''


def uwsgi(environment: str) -> str:
    """uWSGI's lines: the application at its path, and static files below it."""
    return f"""manage-script-name = true
mount = {WEBROOT}=openstack_dashboard.wsgi:application
static-map = /static={environment}/share/openstack-dashboard/static
"""


#: django-compressor uses four threads, two of which may render the same node and race in the style sheet compiler,
#: which shares its state (Debian bug 1069097; django-compressor issue 1291): "Syntax error: Found 'inline-blo'".
#: It also loses unexpected errors of its threads. So use one thread, and raise every error.
COMPRESS = f"""
import concurrent.futures as futures
from django.core.management import execute_from_command_line

class One(futures.ThreadPoolExecutor):
    def __init__(self, max_workers=None, *rest, **named):
        super().__init__(1, *rest, **named)
        self.asked = []

    def submit(self, *words, **named):
        self.asked.append(super().submit(*words, **named))
        return self.asked[-1]

    def shutdown(self, *words, **named):
        super().shutdown(*words, **named)
        for future in self.asked:
            future.result()

futures.ThreadPoolExecutor = One
execute_from_command_line(["django", "compress", "--force", "{_SETTINGS}"])
"""


def _make(inside: Chroot, python: str) -> None:
    inside.run(python, *_DJANGO, "collectstatic", "--noinput", "--clear", _SETTINGS, timeout=300, name="collectstatic")
    inside.run(python, "-c", COMPRESS, timeout=900, name="django-compressor")


def collect(inside: Chroot, environment: str, made: Path) -> None:
    """Link the settings to /etc and create the static files.

    :param inside: a system with the environment and the settings bound into it.
    :param made: the environment's directory on this machine.
    """
    local = next(made.glob("lib/python*/site-packages/openstack_dashboard/local"))
    files.erase(local / "local_settings.d")
    for name in ("local_settings.py", "local_settings.d"):
        files.link(local / name, f"{DIRECTORY}/{name}")
    inside.run("mkdir", "-p", f"{DIRECTORY}/local_settings.d", STATE, timeout=10)
    python = f"{environment}/bin/python"
    _make(inside, python)
    inside.run(python, *_DJANGO, "check", _SETTINGS, timeout=300, name="django check")


#: Debian's package collects and compresses in its scripts each time one of thirty other packages is configured, if
#: this file exists; so it is excluded until they are installed.
MANAGE = "/usr/share/openstack-dashboard/manage.py"
_DATA = "/var/lib/openstack-dashboard"


def unpack_manage(archives: Path, inside: Chroot) -> None:
    """Add the file that was excluded when Debian's package was installed.

    :param archives: the directory of the package.
    """
    package = max(archives.glob("openstack-dashboard_*.deb"), key=lambda path: path.stat().st_mtime)
    unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" ".$3"'
    process.run(["sh", "-c", unpack, "sh", package, inside.upper, MANAGE], timeout=60, name="dpkg-deb")


def collect_packaged(inside: Chroot) -> None:
    """Create the static files of Debian's packages, as their own scripts would."""
    inside.run("mkdir", "-p", f"{_DATA}/static/js", f"{_DATA}/static/css", timeout=10)
    _make(inside, "python3")
    inside.run("rm", "-f", f"{_DATA}/secret-key/.secret_key_store", timeout=10)
    inside.run("chown", "-R", "www-data", f"{_DATA}/secret-key", f"{_DATA}/static", timeout=60)
