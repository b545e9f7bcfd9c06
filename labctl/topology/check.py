"""Rules across the fields of a topology: can this lab be built, and would it work?

Each rule is a small function that yields problems; ``rules_network``, ``rules_component`` and
``rules_values`` have the other rules, by topic.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl import bases
from labctl.bases import runs_on
from labctl.drivers import DRIVERS
from labctl.errors import LabError
from labctl.releases import PASSED, RELEASES, named
from labctl.topology import (
    rules_component,
    rules_ipv6,
    rules_mechanism,
    rules_names,
    rules_network,
    rules_secrets,
    rules_values,
    rules_wire,
)
from labctl.topology.model import Topology
from labctl.topology.problems import Positions, Problem, unknown


def check(topology: Topology, positions: Positions) -> list[Problem]:
    """Return all problems of a well-formed topology, in file order."""
    found = [problem for rule in RULES for problem in rule(topology, positions)]
    return sorted(found, key=lambda p: (p.line, p.column))


def first_driver(topology: Topology, base: str | None) -> str:
    """The default driver: the first that can run the requested base, if one is requested."""
    able = (driver for driver in topology.drivers if base is None or runs_on(base, driver))
    return next(able, topology.drivers[0])


def with_release(topology: Topology, release: str) -> Topology:
    """The same layout with another release, on those of its bases that have it, else on the release's own.

    :raises LabError: there is no such release.
    """
    release = named(release)
    if release not in RELEASES:
        raise LabError(_unknown(release), "labctl releases")
    documented = bases.of(RELEASES[release])
    own = tuple(base for base in topology.bases if base in documented)
    possible = tuple(b for b in documented if any(runs_on(b, driver) for driver in topology.drivers))
    return topology.model_copy(update={"release": release, "bases": own or possible or documented})


def _unknown(word: str) -> str:
    """Why no topology can name this release."""
    if passed := PASSED.get(named(word)):
        return f"{passed.title} is a release that only upgrades pass; topologies can name {', '.join(RELEASES)}"
    return unknown("release", word, RELEASES)


def release_is_known(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The release is one that labctl installs."""
    if topology.release not in RELEASES:
        yield at.problem(("release",), _unknown(topology.release))


def bases_are_known(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Each base is one that labctl supports, and is named once."""
    seen: set[str] = set()
    for i, base in enumerate(topology.bases):
        if base not in bases.TITLES:
            yield at.problem(("bases", i), unknown("base", base, bases.TITLES))
        elif base in seen:
            yield at.problem(("bases", i), f"{base} is named twice")
        seen.add(base)


def drivers_are_known(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Each driver is one that labctl has, and is named once."""
    seen: set[str] = set()
    for i, driver in enumerate(topology.drivers):
        if driver not in DRIVERS:
            yield at.problem(("drivers", i), unknown("driver", driver, DRIVERS))
        elif driver in seen:
            yield at.problem(("drivers", i), f"{driver} is named twice")
        seen.add(driver)


def bases_have_the_release(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The release can be installed on each base."""
    if topology.release not in RELEASES:
        return
    possible = bases.of(RELEASES[topology.release])
    for i, base in enumerate(topology.bases):
        if base in bases.TITLES and base not in possible:
            yield at.problem(
                ("bases", i),
                f"{topology.release} cannot be installed on {base}; possible: {', '.join(possible)}",
            )


def bases_and_drivers_fit(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Each base can be run by some driver of the file, and each driver can run some base of it."""
    named = [base for base in topology.bases if base in bases.TITLES]
    drivers = [driver for driver in topology.drivers if driver in DRIVERS]
    for i, driver in enumerate(topology.drivers):
        if driver in drivers and named and not any(runs_on(base, driver) for base in named):
            able = ", ".join(d for d in DRIVERS if runs_on(named[0], d))
            yield at.problem(
                ("drivers", i),
                f"{driver} cannot run {' or '.join(named)}: it needs its own kernel; possible drivers: {able}",
            )
    for i, base in enumerate(topology.bases):
        # When no base fits, the drivers are already reported above.
        lonely = base in named and drivers and not any(runs_on(base, driver) for driver in drivers)
        if lonely and any(runs_on(b, d) for b in named for d in drivers):
            able = next(d for d in DRIVERS if runs_on(base, d))
            yield at.problem(
                ("bases", i),
                f"none of the drivers ({', '.join(drivers)}) can run {base}; add {able} to drivers",
            )


RULES = (
    release_is_known,
    bases_are_known,
    drivers_are_known,
    bases_have_the_release,
    bases_and_drivers_fit,
    *rules_network.RULES,
    *rules_wire.RULES,
    *rules_ipv6.RULES,
    *rules_component.RULES,
    *rules_mechanism.RULES,
    *rules_values.RULES,
    *rules_secrets.RULES,
    *rules_names.RULES,
)
