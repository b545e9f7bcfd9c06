"""A lab seen from outside its namespace, through ``labctl forward``."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from labctl.testing.browser import chromium, drawn, log_in, see_console, until

#: Starts labctl with these words.
Begin = Callable[..., subprocess.Popen[str]]


def begin_here(*words: str, **options: object) -> subprocess.Popen[str]:
    """Start labctl on this machine."""
    return subprocess.Popen([sys.executable, "-m", "labctl", *words], text=True, **options)  # type: ignore[call-overload,no-any-return]


@contextmanager
def forwarded(lab: str, begin: Begin = begin_here) -> Iterator[dict[str, str]]:
    """The links of ``labctl forward``, by name, while it runs; ^C ends it, and nothing listens any more."""
    child = begin(
        "forward", lab, "-o", "json", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    text = ""
    assert child.stdout is not None
    assert child.stderr is not None
    for line in child.stdout:
        text += line
        if line == "]\n":
            break
    assert text.endswith("]\n"), child.stderr.read()
    links = {row["name"]: row["link"] for row in json.loads(text)}
    try:
        yield links
    finally:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert [link for link in links.values() if listens(link)] == []


def listens(link: str) -> bool:
    """True when something takes connections there."""
    parts = urlsplit(link)
    with socket.socket() as asked:
        return asked.connect_ex((parts.hostname or "", parts.port or 0)) == 0


def is_outside(lab_namespace: str) -> bool:
    """True when this process is not in the lab's namespace."""
    return str(Path("/proc/self/ns/net").readlink()) != f"net:[{Path('/run/netns', lab_namespace).stat().st_ino}]"


def catalog(socks: str, password: str) -> dict[str, int]:
    """Every public endpoint of the catalog, and the status of what it answers, asked through the SOCKS port."""
    web = requests.Session()
    web.trust_env, web.proxies = False, {"http": socks}
    auth = v3.Password(
        auth_url="http://controller:5000/v3",
        username="admin",
        password=password,
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
    )
    session = Session(auth=auth, session=web)
    token = auth.get_access(session)
    urls = {
        endpoint["url"]
        for service in token.service_catalog.catalog
        for endpoint in service["endpoints"]
        if endpoint["interface"] == "public"
    }
    return {url: web.get(url, headers={"X-Auth-Token": token.auth_token}, timeout=60).status_code for url in urls}


def dashboard(place: Path, link: str, password: str, server: str, screenshot: Path) -> None:
    """Log in to Horizon at a link, and see a server in the list of instances."""
    with chromium(place) as browser:
        browser.get(link)
        assert urlsplit(browser.current_url).netloc == urlsplit(link).netloc, "it leads nowhere else"
        assert "/auth/login/" in browser.current_url
        log_in(browser, browser.current_url, "admin", password)
        until(browser, "login", lambda page: "/auth/login" not in page.current_url)
        browser.get(f"{link}project/instances/")
        until(browser, f"{server} in the list", lambda page: server in page.find_element("id", "instances").text)
        assert urlsplit(browser.current_url).netloc == urlsplit(link).netloc
        assert browser.save_screenshot(str(screenshot))


def console(place: Path, address: str, screenshot: Path) -> None:
    """See a guest's console at an address, and type on it."""
    with chromium(place) as browser:
        see_console(browser, address)
        assert browser.save_screenshot(str(screenshot))


def console_in_dashboard(place: Path, socks: str, horizon: str, password: str, server_id: str) -> None:
    """See a guest's console on Horizon's own page, in a browser that uses the SOCKS port."""
    with chromium(place, f"--proxy-server={socks.replace('socks5h', 'socks5')}") as browser:
        log_in(browser, f"{horizon}auth/login/", "admin", password)
        until(browser, "login", lambda page: "/auth/login" not in page.current_url)
        browser.get(f"{horizon}project/instances/{server_id}/?tab=instance_details__console")
        frame = until(browser, "the console's frame", lambda page: page.find_elements("css selector", "iframe"))[0]
        browser.switch_to.frame(frame)
        # nova's own address, unlike that of labctl console, leaves it to the user to connect
        button = until(browser, "noVNC's button", lambda page: page.find_elements("id", "noVNC_connect_button"))[0]
        until(browser, "noVNC's button to be seen", lambda _: button.is_displayed())
        button.click()
        until(browser, "a picture of the guest's console", drawn)
