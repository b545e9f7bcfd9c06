"""A real browser for tests: Debian's Chromium without a window, driven by Selenium."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from labctl.testing.waits import patient

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

T = TypeVar("T")
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
#: The colours of what a console's canvas shows, and where: text, so that two of them can be compared.
_PIXELS = """
const canvas = [...document.querySelectorAll('canvas')].find(found => found.width > 300);
if (!canvas) return '';
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let drawn = '';
for (let at = 0; at < data.length; at += 4 * 7) drawn += String.fromCharCode(32 + (data[at + 1] >> 2));
return drawn;
"""


@contextmanager
def chromium(directory: Path, *flags: str) -> Iterator[WebDriver]:
    """A browser with its own profile in a directory; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Debian's chromium and chromium-driver are not installed: make setup")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={directory / 'profile'}", *flags):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver, log_output=str(directory / "chromedriver.log"))
    made = webdriver.Chrome(options=options, service=service)
    try:
        made.command_executor.client_config.timeout = patient(PAGE_DEADLINE) + 30  # of a command, such as a page's load
        made.set_page_load_timeout(patient(PAGE_DEADLINE))
        yield made
    finally:
        made.quit()


def until(browser: WebDriver, what: str, condition: Callable[[Any], T], seconds: float = PAGE_DEADLINE) -> T:
    """Wait for a condition of the page; the message shows the current page."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(browser, patient(seconds), poll_frequency=0.5).until(condition)
    except TimeoutException:
        text = browser.find_element("tag name", "body").text[-800:]
        return pytest.fail(f"{what}: timed out on {browser.current_url} ({browser.title}):\n{text}", pytrace=False)


def log_in(browser: WebDriver, login: str, user: str, password: str) -> None:
    """Submit Horizon's login form; with several domains it also has a domain field."""
    browser.get(login)
    for field in browser.find_elements("name", "domain"):
        if field.get_attribute("type") != "hidden":
            field.send_keys("Default")
    browser.find_element("name", "username").send_keys(user)
    secret = browser.find_element("name", "password")
    secret.send_keys(password)
    secret.submit()


def drawn(browser: WebDriver) -> str:
    """A digest of what a guest's console shows; empty while it shows nothing, or one colour only."""
    pixels = str(browser.execute_script(_PIXELS))
    return hashlib.sha256(pixels.encode()).hexdigest() if len(set(pixels)) > 1 else ""


def see_console(browser: WebDriver, address: str) -> None:
    """Open a guest's console; see that it shows something, and that a key that is typed changes it."""
    browser.get(address)
    until(browser, "a picture of the guest's console", drawn)
    canvas = next(c for c in browser.find_elements("tag name", "canvas") if c.size["width"] > 300)
    canvas.click()
    until(browser, "an answer to what is typed on the console", lambda page: _types(page, drawn(page)))


def _types(browser: Any, before: str) -> bool:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(browser).send_keys("labctl", Keys.ENTER).pause(2).perform()
    return drawn(browser) not in ("", before)
