"""Horizon and noVNC in a real browser: login, rejected login, instance list, launch form, a guest's console."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests

from labctl.lab import console as consoles
from labctl.testing import resources
from labctl.testing.browser import PAGE_DEADLINE, log_in, see_console, until
from labctl.testing.waits import patient, wait_for

LOGIN_DEADLINE = 180
PATHS = ("/horizon/", "/dashboard/", "/")  # Debian, CentOS, a separate host


@pytest.fixture(scope="session")
def dashboard(lab):
    """The URL of the login page."""
    host = urlsplit(lab.auth_url).hostname
    tried = []
    for path in PATHS:
        url = f"http://{host}{path}auth/login/"
        answer = requests.get(url, timeout=patient(PAGE_DEADLINE))
        if answer.status_code == 200 and "password" in answer.text:
            return url
        tried.append(f"{url}: {answer.status_code}")
    pytest.fail("no Horizon login page found; " + "; ".join(tried), pytrace=False)


@pytest.mark.needs("horizon")
def test_wrong_password_is_refused(browser, dashboard, project):
    log_in(browser, dashboard, project.user, project.password + "x")
    until(browser, "a rejected login", lambda page: "Invalid credentials" in page.page_source)
    assert "/auth/login" in browser.current_url


@pytest.mark.needs("horizon")
def test_instance_list_shows_a_booted_guest_and_the_launch_form_opens(browser, dashboard, project, boot, artifacts_dir):
    server = boot("seen")
    log_in(browser, dashboard, project.user, project.password)
    until(browser, "login", lambda page: "/auth/login" not in page.current_url)

    root = dashboard.removesuffix("auth/login/")
    browser.get(f"{root}project/instances/")
    row = until(
        browser,
        f"{server.name} in the list of instances",
        lambda page: next(
            (r for r in page.find_elements("css selector", "#instances tbody tr") if server.name in r.text),
            None,
        ),
    )
    assert resources.fixed_address(project, server) in row.text
    assert "Active" in row.text
    screenshot = artifacts_dir / "dashboard-instances.png"
    assert browser.save_screenshot(str(screenshot))
    assert screenshot.stat().st_size > 10_000

    until(browser, "the launch button", lambda page: page.find_elements("id", "instances__action_launch-ng"))
    browser.find_element("id", "instances__action_launch-ng").click()
    form = until(
        browser,
        "the launch form",
        lambda page: next(
            (m for m in page.find_elements("css selector", ".modal-dialog") if "Instance Name" in m.text),
            None,
        ),
    )
    assert form.is_displayed()
    assert browser.save_screenshot(str(artifacts_dir / "dashboard-launch.png"))


def test_a_guest_s_console_is_seen_and_typed_on(lab, browser, boot, console, artifacts_dir):
    server = boot("typed")
    wait_for(
        "a login prompt on the console",
        lambda: console(server),
        done=lambda log: "login:" in log,
        deadline=LOGIN_DEADLINE,
        interval=3,
    )
    see_console(browser, consoles.url(lab, server.id))
    assert browser.save_screenshot(str(artifacts_dir / "console.png"))
