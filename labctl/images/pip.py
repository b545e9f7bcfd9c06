"""The machine's pip configuration inside a chroot: indexes, certificates, cache.

Everything pip reads on this machine is bound inside under the same path: configuration files, the local indexes and
wheel directories they name, certificate bundles, name resolution.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from labctl.host import files, paths, process, proxy
from labctl.images.chroot import Bind
from labctl.progress import Meter

#: pip's cache inside the chroot.
CACHE = "/var/cache/pip"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PIP_CLIENT_CERT")
#: Settings of what to install and where, which labctl decides.
IGNORED = ("CACHE_DIR", "CONSTRAINT", "REQUIREMENT", "TARGET", "PREFIX", "ROOT", "USER", "REQUIRE_VIRTUALENV", "LOG")
RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")


class Told:
    """Follows pip's output: reports the number of distributions, the current one, and builds."""

    _LINE = re.compile(
        r"^\s*(Collecting|Downloading|Building wheel for|Installing collected packages:)\s*([^\s,;<>=!~(]+)"
    )

    def __init__(self, where: str = "image") -> None:
        self._meter = Meter(where)
        self._collected = 0

    def _line(self, text: str) -> bool:
        if found := self._LINE.match(text):
            doing, what = found.groups()
            self._collected += doing == "Collecting"
            said = "installing" if doing.startswith("Installing") else f"{doing.lower()} {what.rpartition('/')[2]}"
            self._meter(f"{self._collected} distributions, {said}")
        return False

    @property
    def listener(self) -> process.Listener:
        """Listener for the command."""
        return process.Listener(self._line)


def _home() -> Path:
    return Path(os.environ.get("HOME", "/root"))


def _configuration_files() -> tuple[Path, ...]:
    """pip's configuration files, in its order (pip documentation, "Configuration")."""
    if chosen := os.environ.get("PIP_CONFIG_FILE"):
        return (Path(chosen),)
    shared = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    own = Path(os.environ.get("XDG_CONFIG_HOME", _home() / ".config"))
    found = [*(Path(d) / "pip/pip.conf" for d in shared), Path("/etc/pip.conf")]
    return tuple(p for p in (*found, _home() / ".pip/pip.conf", own / "pip/pip.conf") if p.is_file())


def _settings() -> Iterator[tuple[str, str]]:
    """All settings of files and environment, by option name."""
    for path in _configuration_files():
        parser = configparser.RawConfigParser()
        parser.read(path)
        for section in parser.sections():
            yield from parser.items(section)
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name.removeprefix("PIP_") not in IGNORED:
            yield name.removeprefix("PIP_").lower().replace("_", "-"), value


def _places(value: str) -> Iterator[Path]:
    """Local paths in a setting."""
    for word in value.split():
        path = Path(unquote(urlsplit(word).path)) if word.startswith("file:") else Path(word)
        if not path.is_absolute() or not path.exists():
            continue
        # the pages of a local index link to files beside it: ../../files/NAME
        yield path.parent if word.startswith("file:") and len(path.parts) > 3 else path


def environment() -> dict[str, str]:
    """Environment variables for pip and its builds."""
    kept = {k: v for k, v in os.environ.items() if k.lower() in PROXIES or k in CERTIFICATES}
    kept |= {k: v for k, v in os.environ.items() if k.startswith("PIP_") and k.removeprefix("PIP_") not in IGNORED}
    return {**kept, **proxy.variables(), "HOME": str(_home()), "PIP_CACHE_DIR": CACHE, "PIP_NO_INPUT": "1"}


def cache_directory(settings: Mapping[str, str]) -> Path:
    """pip's cache directory on this machine."""
    if chosen := os.environ.get("PIP_CACHE_DIR") or settings.get("cache-dir"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", _home() / ".cache")) / "pip"


def binds(built_for: str) -> tuple[Bind, ...]:
    """Binds that pip needs from this machine.

    Downloads are shared with the machine's own pip. Wheels built inside are not: they are linked with one image's
    libraries, so they are cached under its name.

    :param built_for: the image's name.
    """
    settings = list(_settings())
    local = [p for _, value in settings for p in _places(value)]
    local += [Path(os.environ[name]) for name in CERTIFICATES if os.environ.get(name)]
    local += [*_configuration_files(), _home() / ".netrc", *(Path(p) for p in RESOLVER)]
    cache = cache_directory(dict(settings))
    wheels = paths.cache() / "wheels" / built_for
    for path in (cache, wheels):
        files.make_directories(path)
    return (
        *(Bind(p) for p in sorted({p for p in local if p.exists()})),
        Bind(cache, CACHE, writable=True),
        Bind(wheels, f"{CACHE}/wheels", writable=True),
    )
