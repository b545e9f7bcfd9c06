"""The plugin: nothing happens outside a project's suite, and inside it the lab, the markers and the messages."""

from __future__ import annotations

import os
import sys

import pytest
from support import ROOT

from labctl.host import process

#: Stands in for a lab: what `labctl.records.access` gives, without machines. Entering is recorded.
FAKE = """
import sys, types, pathlib, dataclasses

@dataclasses.dataclass(frozen=True)
class Access:
    lab: str
    namespace: str = "labctl-fake"
    hosts_file: pathlib.Path = pathlib.Path("hosts")
    auth_url: str = "http://127.0.0.1:9/v3"
    region: str = "RegionOne"
    admin_password: str = "adminpass"
    demo_password: str = "demopass"
    admin_project: str = "admin"
    demo_project: str = "demo"
    demo_user: str = "demo"
    release: str = "zed"
    topology: str = "zed-2node"
    components: frozenset = frozenset({"keystone", "nova-compute"})
    capabilities: frozenset = frozenset({"block-devices"})
    patience: float = 1.0
    up: str = "labctl up zed-2node --name one"
    nodes: dict = dataclasses.field(default_factory=dict)
    secrets: frozenset = frozenset({"adminpass", "demopass", "rabbitpass"})

def load(lab):
    from labctl.errors import LabError
    if lab not in LABS:
        raise LabError(f"there is no lab {lab}", "labctl list")
    if lab == "unborn":
        raise FileNotFoundError(2, "No such file or directory", "access.json")
    return Access(lab)

access = types.ModuleType("labctl.records.access")
access.Access, access.load = Access, load
record = types.ModuleType("labctl.records.lab")
directory = types.ModuleType("labctl.records.directory")
directory.names = lambda: list(LABS)
record.Lab = types.SimpleNamespace(
    load=lambda name: types.SimpleNamespace(up=lambda: f"labctl up zed-2node --name {name}")
)
namespace = types.ModuleType("labctl.host.namespace")
namespace.enter = lambda namespace, hosts: pathlib.Path("entered").write_text(namespace)
namespace.leave_trail = lambda: None
import labctl.host, labctl.records
for name, module in (("access", access), ("lab", record), ("directory", directory)):
    sys.modules[f"labctl.records.{name}"] = module
    setattr(labctl.records, name, module)
sys.modules["labctl.host.namespace"] = labctl.host.namespace = namespace
"""
ANSWERS = "import labctl.records.cloud as cloud\ncloud.check = lambda lab: None\n"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """A project with tests/ and a suite in e2e/ (another project's when not ``own``), and labs that exist only here."""
    monkeypatch.delenv("LABCTL_LAB", raising=False)

    def make(labs: tuple[str, ...] = ("one",), answers: bool = True, e2e: str = "def test_a(lab): pass", own=True):
        if own:
            pytester.makeini("[pytest]\nlab_suites = e2e\n")
        pytester.makeconftest(f"LABS = {labs!r}\n" + FAKE + (ANSWERS if answers else ""))
        pytester.makepyfile(**{"e2e/test_a.py": e2e, "tests/test_unit.py": UNIT})
        return pytester

    return make


UNIT = """
import pathlib, sys

def test_nothing_was_entered_or_imported():
    assert not pathlib.Path("entered").exists()
    assert "openstack" not in sys.modules
    assert "keystoneauth1" not in sys.modules
    assert "labctl.testing.fixtures" not in sys.modules
"""


@pytest.mark.parametrize("arguments", [["tests"], ["."], []], ids=["tests", "dot", "nothing named"])
def test_plugin_is_inert_when_no_suite_is_named(suite, arguments):
    result = suite(answers=False).runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("lab: *")


@pytest.mark.parametrize("argument", ["e2e", "e2e/test_a.py", "e2e/test_a.py::test_a"])
def test_naming_a_suite_enters_the_only_lab(suite, argument):
    project = suite()
    result = project.runpytest_subprocess(argument)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["lab: one (zed-2node, zed)*"])
    assert (project.path / "entered").read_text() == "labctl-fake"


FOREIGN = """
import pytest

@pytest.fixture
def lab():
    return "this project's own"

@pytest.mark.destructive
def test_stops_something(lab):
    assert lab == "this project's own"

@pytest.mark.needs("nothing")
def test_fails():
    assert False
"""


@pytest.mark.parametrize(
    ("labs", "arguments"),
    [(("one",), ["e2e"]), ((), ["e2e/test_a.py::test_stops_something", "e2e"]), (("one", "two"), ["."])],
    ids=["one lab", "no lab", "two labs"],
)
def test_another_projects_e2e_is_not_touched(suite, labs, arguments, monkeypatch):
    monkeypatch.setenv("LABCTL_LAB", "one")  # as in `labctl shell one`
    project = suite(labs=labs, e2e=FOREIGN, own=False)
    result = project.runpytest_subprocess(*arguments, "-k", "stops or fails")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("lab: *")
    result.stdout.no_fnmatch_line("stored: *")
    assert not (project.path / "entered").exists()
    assert not (project.path / "artifacts").exists()


def test_another_projects_e2e_is_run_against_a_lab_that_is_named(suite):
    project = suite(own=False, e2e="def test_a(lab): assert lab.lab == 'x'")
    result = project.runpytest_subprocess("--lab", "one", "e2e")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["lab: one *", "stored: */artifacts/one/*"])
    assert (project.path / "entered").exists()


def test_labctls_own_suite_is_one_from_wherever_it_is_named(monkeypatch):
    """``pytest e2e/ -n 4`` in the checkout, and from elsewhere."""
    monkeypatch.delenv("LABCTL_LAB", raising=False)
    for place, words in ((ROOT, ["e2e/", "-n", "4"]), ("/", [ROOT / "e2e" / "test_identity.py"])):
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
        done = process.run(words, cwd=place, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
        assert "there is no lab to test; create one with: labctl up zed-2node" in done.stderr


def test_naming_the_lab_enters_it_for_any_test(suite):
    project = suite(labs=("one", "two"))
    project.runpytest_subprocess("--lab", "two", "e2e").stdout.fnmatch_lines(["lab: two *"])


def test_each_worker_has_the_lab(suite):
    tests = "\n".join(f"def test_{n}(lab): assert lab.lab == 'one'" for n in range(4))
    suite(e2e=tests).runpytest_subprocess("-n", "2", "e2e").assert_outcomes(passed=4)


def test_several_labs_and_no_name_is_an_error_that_lists_them(suite):
    result = suite(labs=("zed", "train")).runpytest_subprocess("e2e")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*choose one with --lab NAME: train, zed*"])


def test_no_lab_at_all_says_how_to_make_one(suite):
    result = suite(labs=()).runpytest_subprocess("e2e")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*labctl up*"])


def test_an_unknown_lab_is_an_error(suite):
    result = suite().runpytest_subprocess("--lab", "nine", "e2e")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no lab nine*"])


def test_a_lab_that_is_not_up_yet_is_named_with_the_command_that_brings_it_up(suite):
    result = suite(labs=("unborn",)).runpytest_subprocess("e2e")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = ["*the lab unborn is not up: access.json is missing", "*try: labctl up zed-2node --name unborn"]
    result.stderr.fnmatch_lines(lines)


def test_a_lab_that_gives_no_token_stops_the_run_with_one_message(suite):
    tests = "\n".join(f"def test_{n}(lab): pass" for n in range(20))
    for workers in ([], ["-n", "2"]):
        result = suite(answers=False, e2e=tests).runpytest_subprocess("e2e", *workers)
        assert result.ret == 3
        text = result.stdout.str() + result.stderr.str()
        assert text.count("lab one issues no token at http://127.0.0.1:9/v3") == 1
        assert "FAILED" not in text


def test_needs_skips_and_names_what_is_lacking(suite):
    tests = """
        import pytest
        @pytest.mark.needs("cinder-volume", "keystone")
        def test_lacking(lab): raise AssertionError
        @pytest.mark.needs("keystone", "block-devices")
        def test_there(lab): pass
    """
    result = suite(e2e=tests).runpytest_subprocess("-rs", "e2e")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*lab one has no cinder-volume"])


def test_destructive_tests_run_only_when_asked_for(suite):
    tests = """
        import pytest
        @pytest.mark.destructive
        def test_stops_a_node(lab): pass
        def test_gentle(lab): pass
    """
    suite(e2e=tests).runpytest_subprocess("e2e").assert_outcomes(passed=1, deselected=1)
    suite(e2e=tests).runpytest_subprocess("--destructive", "e2e").assert_outcomes(passed=2)


def test_destructive_tests_do_not_run_beside_others(suite):
    result = suite().runpytest_subprocess("--destructive", "-n", "2", "e2e")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*its tests run one at a time: -n 0"])
    suite().runpytest_subprocess("--destructive", "-n", "0", "e2e").assert_outcomes(passed=1)


def test_a_failure_is_stored_without_secrets_and_says_how_to_run_it_again(suite):
    project = suite(e2e="def test_a(lab): assert lab.admin_password == 'x'")
    result = project.runpytest_subprocess("e2e")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["stored: */artifacts/one/test_a.py-test_a", "again:  labctl test one -- e2e/test_a.py::test_a"]
    )
    stored = (project.path / "artifacts/one/test_a.py-test_a/failure.txt").read_text()
    assert "adminpass" not in stored
    assert "***" in stored


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_no_secret_is_printed_or_written_to_the_junit_file(suite, workers):
    tests = """
        import logging
        def test_fails(lab):
            print("out rabbitpass")
            logging.warning("log demopass")
            assert lab.admin_password == "adminpass-"
        def test_passes(lab):
            print("fine rabbitpass")
    """
    project = suite(e2e=tests)
    result = project.runpytest_subprocess(
        "e2e", "--junitxml=j.xml", "-o", "junit_logging=all", "-o", "junit_log_passing_tests=true", "-rA", *workers
    )
    result.assert_outcomes(failed=1, passed=1)
    written = (project.path / "j.xml").read_text()
    said = result.stdout.str() + result.stderr.str()
    for text in (written, said):
        assert "out ***" in text
        assert "log ***" in text
        assert "fine ***" in text
        for secret in ("adminpass", "demopass", "rabbitpass"):
            assert secret not in text.replace('"adminpass-"', "")  # the test's own source


def test_collecting_needs_no_lab(suite):
    project = suite(labs=())
    result = project.runpytest_subprocess("--collect-only", "-q", "e2e")
    result.stdout.fnmatch_lines(["*test_a.py::test_a*"])
    assert not (project.path / "entered").exists()


RETURNED = """
import types
import pytest

class Kept:
    def project(self, name):
        return types.SimpleNamespace(password="projectpass", name="p", connection=None)

    def give_back(self, *, failed):
        with open("returned", "a") as log:
            log.write(f"{failed}\\n")

@pytest.fixture(scope="session")
def kept_project():
    return Kept()

@pytest.fixture
def broken(project):
    raise OSError("no network")

def test_passes(project): pass
def test_fails(project): assert False
def test_passes_again(project): pass
def test_is_not_set_up(broken): pass
"""


def test_a_project_is_given_back_as_failed_after_a_test_or_a_fixture_that_failed(suite):
    project = suite(e2e=RETURNED)
    project.runpytest_subprocess("e2e").assert_outcomes(passed=2, failed=1, errors=1)
    assert (project.path / "returned").read_text().split() == ["False", "True", "False", "True"]
