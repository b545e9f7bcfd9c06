"""Which finding explains which."""

from __future__ import annotations

from dataclasses import replace

from labctl.diagnose.model import Diagnosis, Finding, Level, Mend
from labctl.diagnose.rows import ROWS


def finding(level: Level, where: str, service: str, found: str = "") -> Finding:
    return Finding(ROWS["B63"], level, where, service, found, "fix")


DATABASE = finding(Level.DATABASE, "controller", "mariadb")
GLANCE_FILE = finding(Level.FILES, "controller", "glance")
GLANCE = finding(Level.SERVICE, "controller", "glance")
NOVA = finding(Level.AGENT, "api", "nova")


def test_a_service_is_explained_by_what_it_stands_on() -> None:
    found = Diagnosis.of([NOVA, GLANCE, DATABASE])
    assert found.causes == (DATABASE,)
    assert set(found.consequences) == {NOVA, GLANCE}


def test_a_service_explains_nothing_of_another() -> None:
    assert Diagnosis.of([GLANCE_FILE, NOVA]).causes == (GLANCE_FILE, NOVA)
    assert Diagnosis.of([GLANCE_FILE, GLANCE]).causes == (GLANCE_FILE,)


def test_a_consequence_explains_further_ones() -> None:
    settings = finding(Level.FILES, "controller", "mariadb")
    assert Diagnosis.of([NOVA, DATABASE, settings]).causes == (settings,)


def test_a_full_disk_explains_its_node_and_the_apis_only() -> None:
    disk = finding(Level.DISK, "compute", "node")
    agent = finding(Level.SERVICE, "compute", "neutron")
    assert Diagnosis.of([GLANCE, agent, NOVA, disk]).causes == (disk, GLANCE)


def test_causes_come_in_the_order_of_what_depends_on_what() -> None:
    time = finding(Level.PACKAGES, "compute", "cinder")
    assert Diagnosis.of([GLANCE, GLANCE_FILE, time]).causes[0] == time


def test_a_unit_explains_what_it_serves_whichever_test_ended_first() -> None:
    unit = replace(DATABASE, found="mariadb is inactive", mend=Mend("controller"))
    answer = replace(DATABASE, found="database does not answer")
    assert Diagnosis.of([answer, unit]).causes == Diagnosis.of([unit, answer]).causes == (unit,)
