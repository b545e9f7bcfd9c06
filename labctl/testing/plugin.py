"""The pytest plugin: enters a lab's network, registers fixtures and markers, captures failures.

The plugin is registered for every pytest run of a machine that has labctl installed, so it does nothing (imports
nothing, enters nothing, selects nothing) unless ``--lab`` is given or a named test is in a directory that the
project's configuration lists as a lab suite: ``lab_suites`` in pyproject.toml. The directory's name is irrelevant.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.errors import BROKEN, LabError
from labctl.testing.stash import BEGAN, FAILED, LAB, artifacts

if TYPE_CHECKING:
    from labctl.records.access import Access

SUITES = "lab_suites"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suites that run against a lab."""
    group = parser.getgroup("labctl", "end-to-end tests against a lab")
    group.addoption("--lab", metavar="NAME", help="the lab to test (default: $LABCTL_LAB, else the only one)")
    group.addoption("--lab-artifacts", metavar="DIR", help="directory for failure logs (default: ./artifacts/LAB)")
    group.addoption(
        "--destructive", action="store_true", help="also run the tests that stop nodes or services of the lab"
    )
    parser.addini(SUITES, "directories whose tests run against a lab", type="paths", default=[])


def suites(config: pytest.Config) -> list[Path]:
    """The project's suites against a lab."""
    return [Path(path).resolve() for path in config.getini(SUITES)]


def in_suite(path: Path, config: pytest.Config) -> bool:
    """True for a path that is, or is inside, one of the project's suites."""
    return any(path.resolve().is_relative_to(suite) for suite in suites(config))


def is_active(config: pytest.Config) -> bool:
    """True when this run is against a lab."""
    if config.getoption("--lab"):
        return True
    here = config.invocation_params.dir
    paths = (here / str(arg).split("::", 1)[0] for arg in config.args)
    return any(in_suite(path, config) for path in paths)


def chosen_lab(option: str | None) -> str:
    """The lab to test.

    :raises pytest.UsageError: no lab is named and there is not exactly one.
    """
    named = option or os.environ.get("LABCTL_LAB")
    if named:
        return named
    from labctl.records import directory

    known = sorted(directory.names())
    if len(known) == 1:
        return known[0]
    if not known:
        raise pytest.UsageError("there is no lab to test; create one with: labctl up zed-2node")
    raise pytest.UsageError(f"several labs exist; choose one with --lab NAME: {', '.join(known)}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers in projects that use them."""
    if not suites(config) and not is_active(config):
        return
    config.addinivalue_line("markers", "needs(name, ...): skip when the lab lacks a component or capability")
    config.addinivalue_line("markers", "smoke: one path through each service; selected by --smoke")
    config.addinivalue_line("markers", "destructive: stops parts of the lab; runs only with --destructive")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """In a run against a lab, enter its namespace before any socket is opened, also in xdist workers.

    A broken lab ends the run here, before pytest reports anything: one message, status 3.
    """
    option = config.option
    if option.help or option.version or option.collectonly or not is_active(config):
        return None
    if option.destructive and getattr(option, "numprocesses", None):
        raise pytest.UsageError("--destructive stops parts of the lab, so its tests run one at a time: -n 0")
    from labctl.records import access
    from labctl.testing import waits

    name = chosen_lab(config.getoption("--lab"))
    try:
        lab = access.load(name)
    except LabError as error:
        raise pytest.UsageError(_told(error)) from error
    except FileNotFoundError as error:  # recorded, but `up` has not written its credentials yet
        from labctl.records.lab import Lab

        again = Lab.load(name).up()
        raise pytest.UsageError(f"the lab {name} is not up: {error.filename} is missing\n  try: {again}") from error
    try:
        _enter(lab)
        if not hasattr(config, "workerinput"):
            from labctl.records import cloud

            cloud.check(lab)
    except LabError as error:
        sys.stderr.write(f"ERROR: {_told(error)}\n")
        return BROKEN
    waits.be_patient(lab.patience)
    config.stash[LAB] = lab
    config.pluginmanager.import_plugin("labctl.testing.fixtures")
    return None


def _enter(lab: Access) -> None:
    from labctl.host import process

    for variable in set(os.environ) - set(process.without_proxies()):
        del os.environ[variable]
    # xdist workers are children of a process that has already entered, and have a second thread.
    target = Path("/run/netns", lab.namespace)
    if target.exists() and os.path.samestat(target.stat(), os.stat("/proc/self/ns/net")):  # noqa: PTH116
        return
    from labctl.host import namespace

    namespace.leave_trail()
    namespace.enter(lab.namespace, lab.hosts_file)


def _told(error: LabError) -> str:
    return f"{error.message}\n  try: {error.hint}" if error.hint else error.message


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the lab."""
    lab = config.stash.get(LAB, None)
    if lab is None:
        return None
    return f"lab: {lab.lab} ({lab.topology}, {lab.release}), nodes {', '.join(lab.nodes)}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the lab suites in runs that are not against a lab (``pytest .``)."""
    if not is_active(config) and collection_path.resolve() in suites(config):
        return True
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect destructive tests and skip those that the lab cannot run, naming what it lacks."""
    if not is_active(config):
        return
    if not config.getoption("--destructive"):
        refused = [item for item in items if item.get_closest_marker("destructive")]
        if refused:
            items[:] = [item for item in items if item not in refused]
            config.hook.pytest_deselected(items=refused)
    lab = config.stash.get(LAB, None)
    if lab is None:
        return
    has = {*lab.components, *lab.capabilities}
    for item in items:
        needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
        lacking = [name for name in needed if name not in has]
        if lacking:
            item.add_marker(pytest.mark.skip(reason=f"lab {lab.lab} has no {', '.join(lacking)}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record when the test began, for the logs since then."""
    item.stash[BEGAN] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Redact secrets; on a failure store the lab's logs, and show where they are and how to rerun the test."""
    report: pytest.TestReport = yield
    lab = item.config.stash.get(LAB, None)
    if lab is None:
        return report
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    from labctl.testing import capture, fixtures

    projects = item.stash.get(fixtures.PROJECTS, [])
    _hide(report, capture.redactor(lab, projects))
    if not report.failed or not (in_suite(item.path, item.config) or "lab" in getattr(item, "fixturenames", ())):
        return report
    directory = artifacts(item.config, lab) / capture.folder_name(item.nodeid)
    lines = [f"again:  {capture.again(lab.lab, item.nodeid)}"]
    try:
        kept = capture.capture(
            lab,
            fixtures.admin_of(item),
            projects,
            directory / report.when if report.when == "teardown" else directory,
            item.stash.get(BEGAN, time.time()),
            report.longreprtext,
            capture.subject(item.path),
        )
        lines.insert(0, f"stored: {shlex.quote(str(kept))}")
    except Exception as error:  # the test's own failure must stay visible
        lines.append(f"nothing stored: {type(error).__name__}: {error}")
    report.sections.append(("labctl", "\n".join(lines)))
    return report


def _hide(report: pytest.TestReport, redact: Callable[[str], str]) -> None:
    """Redact secrets in a report before it is printed, sent or written to a JUnit file."""
    if report.failed and (hidden := redact(report.longreprtext)) != report.longreprtext:
        report.longrepr = hidden
    report.sections = [(title, redact(content)) for title, content in report.sections]
