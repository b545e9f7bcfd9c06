"""Rules about chosen secrets: what OpenStack and the programs of a lab can carry, and what anybody would guess."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.components import COMPONENTS, Component
from labctl.topology.model import Topology
from labctl.topology.problems import Positions, Problem, unknown

#: The names of all secrets that labs have.
SECRETS = tuple(name for placing in COMPONENTS.values() for name in placing.secrets)
#: Keystone's bcrypt hashes the first 72 bytes of a password, and would accept any that begins so.
_MOST_BYTES = 64
#: What does not understand a quoted password in its database's URL: Alembic's file has another meaning for ``%`` in
#: keystone/common/sql/upgrades.py, and nova/objects/cell_mapping.py fills in the braces of a URL without its quotes.
_URL_READERS = {
    "KEYSTONE_DBPASS": "keystone's migrations",
    "NOVA_DBPASS": "nova's cell mappings",
    "REDIS_PASS": "Redis and gnocchi",
}
#: What a URL has without percent signs.
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
#: The first words of every list of passwords that were stolen, and those of install guides.
_COMMON = """
password passw0rd passwd pass secret admin administrator root demo user test guest openstack stack cloud labctl rabbit
mysql mariadb database service changeme letmein welcome default master login qwerty qwertyuiop abc123 iloveyou monkey
dragon 000000 111111 123123 654321 1234 12345 123456 1234567 12345678 123456789 1234567890 password1 password123
admin123 1q2w3e4r 1qaz2wsx unix1234
"""


def obstacle(name: str, value: str) -> str | None:
    """Why a lab cannot have this secret."""
    if not value:
        return "must not be empty"
    if not value.isprintable():
        return "must not have control characters, line breaks or others that are not printed: files have one line each"
    if len(value.encode()) > _MOST_BYTES:
        return f"must be at most {_MOST_BYTES} bytes in UTF-8: keystone's hashes ignore what is longer"
    if value != value.strip():
        return "must not begin or end with a blank: configuration files have none there"
    if name.endswith("_DBPASS") and not value.isascii():
        return "must have ASCII characters only: PyMySQL would send others in Latin 1"
    if (reader := _URL_READERS.get(name)) and not _UNRESERVED.fullmatch(value):
        return f"must be letters, digits, '-', '.', '_' or '~': {reader} cannot read others in a URL"
    if name.endswith("_DBPASS") and re.search(r"%[0-9A-Fa-f]{2}", value):
        return "must have no two digits after a '%': SQLAlchemy reads its own URLs twice"
    if name == "RABBIT_PASS" and "/" in value:
        return "must have no '/': oslo.messaging gives it to kombu in a URL, unquoted"
    if name.startswith("SWIFT_") and re.search(r"%|\s;|^\"\"$", value):
        return "must have no '%', and no ';' after a blank: Swift's configuration files give them a meaning"
    return None


def secrets_can_be_carried(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Every program that a secret passes through keeps it as it is."""
    for name, value in topology.passwords.items():
        # The value itself stays out of the message: it may be a real secret.
        if reason := obstacle(name.upper(), value) or _in_swift(topology, name.upper(), value):
            yield at.problem(("passwords", name), reason)


def _in_swift(topology: Topology, name: str, value: str) -> str | None:
    """Why Swift's proxy cannot have the message bus' URL in its file, where it tells telemetry of requests."""
    runs = {component for node in topology.nodes.values() for component in node.runs}
    told = {Component.CEILOMETER, Component.SWIFT_PROXY} <= runs
    if name != "RABBIT_PASS" or not told or _UNRESERVED.fullmatch(value):
        return None
    return "must be letters, digits, '-', '.', '_' or '~' in a lab with ceilometer: Swift's files give '%' a meaning"


def secrets_are_known(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Each name under ``passwords`` is a secret's: a mistyped one would leave the secret random."""
    for name in topology.passwords:
        if name.upper() not in SECRETS:
            yield at.problem(("passwords", name), unknown("secret", name, SECRETS), key=True)


def easily_guessed(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Chosen secrets that a stranger would try first; nothing forbids them."""
    names = {topology.name, topology.release, topology.fixtures.user, topology.fixtures.project}
    known = {*_COMMON.split(), *(word.lower() for word in names)}
    for name, value in topology.passwords.items():
        word = value.lower()
        if word in known or word == name.lower():
            yield at.problem(("passwords", name), "is a common word, which anybody would guess; choose another")


RULES = (secrets_can_be_carried, secrets_are_known)
