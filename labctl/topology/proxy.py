"""The proxy of package downloads, as a topology or $LABCTL_PROXY names it."""

from __future__ import annotations

import re

from labctl.secret import mark

#: The secret of a lab whose proxy has a password.
SECRET = "PROXY_PASS"
_TEXT = r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])"
_PORT = r"[1-9][0-9]{0,4}"
#: What a topology has, and what a lab's record has: there the password is a mark.
GIVEN = rf"^http://(?:{_TEXT}(?::{_TEXT})?@)?{_HOST}:{_PORT}/?$"
RECORDED = rf"^http://(?:{_TEXT}(?::{mark(SECRET)})?@)?{_HOST}:{_PORT}$"
LIKE = "use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %XX for other characters than letters and digits"


def valid(given: str) -> bool:
    """True for the URL of a proxy."""
    return bool(re.fullmatch(GIVEN[1:-1], given)) and int(given.rstrip("/").rpartition(":")[2]) < 2**16


def split(given: str) -> tuple[str, str]:
    """A valid URL with a mark in the place of its password, and the password, as the URL spells it."""
    url = given.rstrip("/")
    user, _, host = url.removeprefix("http://").rpartition("@")
    name, colon, password = user.partition(":")
    return (f"http://{name}:{mark(SECRET)}@{host}", password) if colon else (url, "")
