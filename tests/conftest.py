"""What all tests share: a home of their own, and golden files that a switch rewrites."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import Labctl
from hypothesis import settings
from real import golden_image
from support import SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.drivers.libvirt import connection
from labctl.drivers.libvirt.machine import Libvirt
from labctl.drivers.nspawn import Nspawn
from labctl.drivers.vagrant.machine import VagrantMachines
from labctl.images import retry
from labctl.records.lab import Lab

#: The files that take longest, in this order: begun last, one would keep one core busy and leave the other idle.
FIRST = (
    "tests/test_lab.py",
    "tests/drivers/test_contract.py",
    "tests/faults/test_torture.py",
    "tests/faults/test_conditions.py",
    "tests/images/test_guest_boot.py",
    "tests/test_lab_nodes.py",
)

# a test asserts behaviour, not time: on a busy machine an example may take any
settings.register_profile("labctl", deadline=None)
settings.load_profile("labctl")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes the golden files instead of comparing with them."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden; look at the diff afterwards")
    parser.addoption("--whole-contract", action="store_true", help="hold every driver to all of the contract")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The long proof of the diagnosis runs by its own path only."""
    named = any("sabotage" in word for word in config.invocation_params.args)
    return True if collection_path.name == "sabotage" and not named else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files, and hold Vagrant and clouds, at a minute a test without KVM, to the tests marked ``brief``.

    ``make contract`` holds it to all.
    """
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))
    if config.getoption("--whole-contract"):
        return
    slow = [
        item
        for item in items
        if "test_contract.py" in item.nodeid and item.name.partition("[")[2].startswith(("vagrant", "openstack"))
    ]
    left = [item for item in slow if item.get_closest_marker("brief") is None]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says something in the run's summary, whichever worker the test was on."""
    return lambda text: record_property("told", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have told."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "told" and report.when == "call":
                    terminalreporter.section(report.nodeid, sep="-")
                    terminalreporter.write_line(text)


@pytest.fixture(autouse=True, scope="session")
def _downloads() -> None:
    """Tests with homes of their own load no package twice."""
    if os.geteuid() == 0:
        os.environ.setdefault("LABCTL_CACHE", "/var/lib/labctl/cache")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(retry, "PAUSE", 0.01)


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labctl home of the test's own; system tests may use the machine's image store and choose theirs."""
    place = tmp_path / "labctl-home"
    if request.node.get_closest_marker("system") is None:
        monkeypatch.setenv("LABCTL_HOME", str(place))
    return place


@pytest.fixture(autouse=True)
def _no_machines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is not marked ``system`` and forgets its stand-in makes no real machine."""

    def refused(*_: object) -> None:
        pytest.fail("this test would make real machines: mark it system, or use drivers.fake")

    if request.node.get_closest_marker("system") is None:
        for driver in (Nspawn, Libvirt, VagrantMachines):
            monkeypatch.setattr(driver, "image", refused)


@pytest.fixture(autouse=True)
def _libvirt_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that has looked for machines does not keep libvirtd from ending, for which another worker would wait."""
    yield
    if request.node.get_closest_marker("system") is None:
        for used in connection._connections.values():
            used.close()


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Labctl:
    """``labctl WORDS`` in this process."""
    return Labctl(monkeypatch, capsys)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The driver nspawn, without machines."""
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    return driver


@pytest.fixture(scope="session")
def golden() -> tuple[Path, ...]:
    """The layers of the machine's golden image, the uppermost first."""
    return golden_image()


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab of two running containers, ``first`` and ``second``, in which no service was configured."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    image = golden_image()
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))
    driver = Nspawn()
    driver.probe()
    path = write(tmp_path, SMALL)
    lab = Lab.create(specify(path, name=f"containers-{os.getpid()}"), path)
    lab.ensure_keys()
    lab.record_image(image)
    driver.create_network(lab)
    try:
        for node in lab.spec.nodes:
            driver.create(lab, node)
            driver.start(lab, node)
        for node in lab.spec.nodes:
            driver.connect(lab, node, 60).close()
        yield lab
    finally:
        left = [item for node in lab.spec.nodes for item in driver.destroy(lab, node)] + driver.destroy_network(lab)
    assert left == []
