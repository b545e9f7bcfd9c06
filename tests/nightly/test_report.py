"""The report: what its pages say, and what a real browser makes of them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from labctl.errors import LabError
from labctl.nightly import report, svg
from labctl.nightly.history import History

sys.path.insert(0, str(ROOT / "bench"))

from nightly_report import fill

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 60 nights with a regression in the last three, and a log and a file of the newest."""
    where = tmp_path_factory.mktemp("nightly")
    with History(where / "history.sqlite") as history:
        fill(history, 60)
        attempt = history.rows(
            "SELECT a.id FROM attempts a JOIN cells c ON c.id = a.cell WHERE c.run = 60 AND c.name = 'train-2node'"
        )[0]["id"]
        log = where / "runs" / "0060" / "train-2node" / "attempt-1" / "up.log"
        log.parent.mkdir(parents=True)
        log.write_text("first line\n" * 500 + "error: <script>alert(1)</script>\n")
        history.record_artefacts(attempt, {log: "log"})
        report.write(history, where / "report")
    return where / "report"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        self.found += [v for k in ("href", "src") if (v := given.get(k))]


def read(path: Path) -> _Links:
    parser = _Links()
    parser.feed(path.read_text())
    return parser


def test_the_pages_name_the_regression_since_when_where_and_how_to_see_it_again(written: Path) -> None:
    text = (written / "index.html").read_text()
    assert "Run 60: 1 of 4 cells need attention" in text
    assert "train-2node: regression" in text
    assert re.search(r"Bad since run 58 \(.*\), first at keystone; last good in run 57", text)
    assert "<strong>controller</strong>: apache2.service" in text
    assert "labctl up train-2node --name again" in text
    assert "error: &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "up/infrastructure" in text  # which became slower


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_outside(written: Path) -> None:
    pages = {page.name: read(page) for page in written.glob("*.html")}
    assert len(pages) == 31
    for name, page in pages.items():
        for link in page.found:
            assert not re.match(r"https?:|//", link), f"{name}: {link}"
            if link.startswith("data:"):
                continue
            file, _, anchor = link.partition("#")
            assert (written / (file or name)).exists(), f"{name}: {link}"
            assert not anchor or anchor in pages[file or name].ids, f"{name}: {link}"


def test_a_history_without_runs_has_a_report_too(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite") as history:
        assert "No nightly run yet" in report.write(history, tmp_path / "report").read_text()


def test_a_report_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("in the way")
    with History(tmp_path / "history.sqlite") as history, pytest.raises(LabError, match="the report cannot be written"):
        report.write(history, tmp_path / "report")


def test_a_long_series_is_thinned_and_keeps_its_end() -> None:
    points = [(n, float(n)) for n in range(1000)]
    thin = svg.thinned(points)
    assert len(thin) == svg.MOST
    assert thin[-1][0] == 999
    assert svg.chart("none", {"up": []}) == ""


# --- in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Debian's chromium and chromium-driver are not installed: make setup")
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver, log_output=str(folder / "chromedriver.log"))
    made = webdriver.Chrome(options=options, service=service)
    made.set_page_load_timeout(60)
    yield made
    made.quit()


def test_a_browser_shows_every_part_without_an_error_from_a_file(browser: Any, written: Path) -> None:
    browser.set_window_size(1200, 1000)
    browser.get((written / "index.html").as_uri())
    assert browser.find_element("css selector", "h1").text == "Run 60: 1 of 4 cells need attention"
    assert len(browser.find_elements("css selector", ".matrix tbody tr")) == 4
    assert len(browser.find_elements("css selector", "svg.chart polyline")) == 8
    browser.find_element("css selector", ".matrix td.failed a").click()
    assert browser.current_url.endswith("run-0060.html#train-2node")
    assert "It failed at keystone" in browser.find_element("id", "train-2node").text
    browser.find_element("css selector", "a[rel=prev]").click()
    assert "run-0059.html" in browser.current_url
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_a_phone_needs_no_sideways_scrolling(browser: Any, written: Path) -> None:
    emulated = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulated)
    for name in ("index.html", "run-0060.html"):
        browser.get((written / name).as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 360, name
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_is_enough(browser: Any, written: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get((written / "index.html").as_uri())

    def focused() -> Any:
        return browser.switch_to.active_element

    browser.find_element("css selector", "body").send_keys(Keys.TAB)
    assert focused().text == "skip to content"
    browser.execute_script("document.querySelector('.matrix a').focus()")
    focused().send_keys(Keys.ARROW_RIGHT)
    focused().send_keys(Keys.ARROW_DOWN)
    assert "run 59, train-2node: failed at keystone" in focused().accessible_name
    focused().send_keys(Keys.ENTER)
    assert browser.current_url.endswith("run-0059.html#train-2node")
