"""Drift: what differs from the plan, in words, without secrets, under the right row."""

from __future__ import annotations

import pytest

from labctl.diagnose.breakages import BREAKAGES
from labctl.diagnose.expected import differences, row_of
from labctl.diagnose.rows import ROWS
from labctl.operations.ini import Ini
from labctl.secret import Redactor, mark

CONF = (
    Ini("/etc/nova/nova.conf")
    .set(
        "DEFAULT", "", {"my_ip": "10.0.0.31", "transport_url": f"rabbit://openstack:{mark('RABBIT_PASS')}@controller/"}
    )
    .set("placement", "", {"password": mark("PLACEMENT_PASS")})
    .file()
)
HIDE = Redactor(["rabbit-secret", "placement-secret"])


def said(*lines: str) -> list[str]:
    return differences(CONF, lines, HIDE)


def test_a_password_in_a_url_is_told_apart_from_the_rest_of_it() -> None:
    wanted = "< [DEFAULT] transport_url = rabbit://openstack:rabbit-secret@controller/"
    (text,) = said(wanted, "> [DEFAULT] transport_url = rabbit://openstack:guess@controller/")
    assert text == "/etc/nova/nova.conf [DEFAULT] transport_url: the password differs from the lab's secret"
    (text,) = said(wanted, "> [DEFAULT] transport_url = rabbit://openstack:guess@elsewhere/")
    assert "elsewhere" in text
    assert "guess" not in text
    assert "rabbit-secret" not in text


def test_a_secret_that_was_replaced_is_not_shown() -> None:
    (text,) = said("< [placement] password = placement-secret", "> [placement] password = my-own-password")
    assert "my-own-password" not in text
    assert "placement-secret" not in text


def test_a_changed_a_missing_and_an_added_setting() -> None:
    texts = said("< [DEFAULT] my_ip = 10.0.0.31", "> [DEFAULT] my_ip = 10.0.0.11", "> [DEFAULT] debug = true")
    assert texts == [
        "/etc/nova/nova.conf [DEFAULT] my_ip: is '10.0.0.11', not '10.0.0.31'",
        "/etc/nova/nova.conf [DEFAULT] debug: was added by hand",
    ]
    assert said("< [DEFAULT] my_ip = 10.0.0.31") == ["/etc/nova/nova.conf [DEFAULT] my_ip: is missing"]


def test_a_misspelt_section_is_two_findings_however_many_options_it_has() -> None:
    assert said("< [placement] password = placement-secret", "> [placements] password = placement-secret") == [
        "/etc/nova/nova.conf [placement]: the section is missing",
        "/etc/nova/nova.conf [placements]: the section was added by hand",
    ]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("/etc/hosts: lacks '10.0.0.11 controller'", "B9"),
        ("/etc/glance/glance-api.conf [database] connection: is missing", "A1"),
        ("/etc/nova/nova.conf [api_database] connection: the password differs from the lab's secret", "A1"),
        ("/etc/nova/nova.conf [keystone_authtoken] password: is missing", "A11"),
        ("/etc/nova/nova.conf [placement] password: the password differs from the lab's secret", "B19"),
        ("/etc/nova/nova.conf [DEFAULT] transport_url: is 'a: b', not 'c'", "B11"),
        ("/etc/nova/nova.conf: owner and mode root:root 600, not root:nova 640", "B65"),
        ("/etc/nova/nova.conf [DEFAULT] debug: was added by hand", "B13"),
    ],
)
def test_a_setting_has_its_row(text: str, row: str) -> None:
    assert row_of(text) == row


def test_every_exercise_has_rows_that_exist_and_a_name_of_its_own() -> None:
    assert all(row in ROWS for breakage in BREAKAGES for row in breakage.rows)
    assert len({breakage.name for breakage in BREAKAGES}) == len(BREAKAGES) >= 40
