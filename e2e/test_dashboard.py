"""Horizon in a real browser: login, rejected login, instance list, launch form."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

import pytest
import requests

from labctl.testing import resources
from labctl.testing.waits import patient

pytestmark = pytest.mark.needs("horizon")

PATHS = ("/horizon/", "/dashboard/", "/")  # Debian, CentOS, a separate host
PAGE_DEADLINE = 90  # the first page of a fresh Django process on a busy machine
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)


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


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium with its own profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Debian's chromium and chromium-driver are not installed: make setup")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver, log_output=str(tmp_path / "chromedriver.log"))
    made = webdriver.Chrome(options=options, service=service)
    made.command_executor.client_config.timeout = patient(PAGE_DEADLINE) + 30  # of a command, such as loading a page
    made.set_page_load_timeout(patient(PAGE_DEADLINE))
    yield made
    made.quit()


def until(browser, what, condition):
    """Wait for a condition of the page; the message shows the current page."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(browser, patient(PAGE_DEADLINE), poll_frequency=0.5).until(condition)
    except TimeoutException:
        text = browser.find_element("tag name", "body").text[-800:]
        pytest.fail(f"{what}: timed out on {browser.current_url} ({browser.title}):\n{text}", pytrace=False)


def log_in(browser, dashboard, project, password):
    """Submit the login form; with several domains it also has a domain field."""
    browser.get(dashboard)
    for field in browser.find_elements("name", "domain"):
        if field.get_attribute("type") != "hidden":
            field.send_keys("Default")
    browser.find_element("name", "username").send_keys(project.user)
    secret = browser.find_element("name", "password")
    secret.send_keys(password)
    secret.submit()


def test_wrong_password_is_refused(browser, dashboard, project):
    log_in(browser, dashboard, project, project.password + "x")
    until(browser, "a rejected login", lambda page: "Invalid credentials" in page.page_source)
    assert "/auth/login" in browser.current_url


def test_instance_list_shows_a_booted_guest_and_the_launch_form_opens(browser, dashboard, project, boot, artifacts_dir):
    server = boot("seen")
    log_in(browser, dashboard, project, project.password)
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
