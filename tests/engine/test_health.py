"""The health gate: what a lab should have by now runs and answers, and what does not is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from apis import Apis
from support import IDENTITY, SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.engine.health import Ailment, Running, check, gate
from labctl.errors import BrokenLabError
from labctl.host import process
from labctl.records.lab import Lab


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


@pytest.fixture
def apis(monkeypatch: pytest.MonkeyPatch) -> Apis:
    return Apis.instead(monkeypatch)


def built(tmp_path: Path, driver: Fake, text: str, until: str = "verify") -> Lab:
    path = write(tmp_path, text)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up(until)
    driver.stages.clear()
    return lab


def test_a_lab_that_is_well_has_no_ailments(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = built(tmp_path, driver, IDENTITY)
    apis.asked.clear()
    assert check(lab) == []
    assert sorted(driver.stages) == [("health", "api"), ("health", "data")]
    assert any("catalog" in asked for asked in apis.asked)
    assert all(session.closed for session in driver.sessions)
    gate(lab)


def test_a_machine_that_does_not_run_is_named_with_its_last_words(tmp_path: Path, driver: Fake) -> None:
    lab = built(tmp_path, driver, SMALL)
    driver.stop(lab, "second", 0)
    assert check(lab) == [Ailment("second", "machine is not running", "second started")]
    driver.destroy(lab, "second")
    assert [a.what for a in check(lab)] == ["machine is missing"]


def test_a_unit_that_does_not_run_is_named_with_its_last_line_and_the_apis_are_not_asked(
    tmp_path: Path, driver: Fake, apis: Apis
) -> None:
    lab = built(tmp_path, driver, IDENTITY)
    secret = lab.secrets()["ADMIN_PASS"].reveal()
    driver.failures["3 units run"] = f"unit mariadb.service is failed: no space for {secret}\nunit x is activating: "
    apis.asked.clear()

    with pytest.raises(BrokenLabError) as raised:
        gate(lab)

    assert raised.value.message == (
        "identity is not healthy:\n  data: mariadb.service is failed: no space for ***\n  data: x is activating: "
    )
    assert "labctl repair identity" in raised.value.hint
    assert apis.asked == []


def test_an_api_that_does_not_answer_is_named(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = built(tmp_path, driver, IDENTITY)
    apis.failure = "catalog"
    (ailment,) = check(lab)
    assert (ailment.where, "HTTP 503" in ailment.last) == ("api", True)


def test_of_a_half_built_lab_only_what_is_built_must_run(tmp_path: Path, driver: Fake, apis: Apis) -> None:
    lab = built(tmp_path, driver, IDENTITY, until="prepare")
    driver.failures["3 units run"] = "unit mariadb.service is inactive: "
    apis.failure = "catalog"
    assert check(lab) == []
    assert driver.stages == []


# --- on a node -------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
# unit files in $UNITS hold their state; "start" brings a unit to what its file $UNIT.then says
verb=$1
shift
case $verb in
is-active) [ "$(cat "$UNITS/$2")" = active ] ;;
show)
    if [ "$2" = TriggeredBy ]; then
        echo "TriggeredBy=$(cat "$UNITS/${3%.service}.by" 2>/dev/null)"
        exit 0
    fi
    for u in "$@"; do
        [ -e "$UNITS/$u" ] && printf 'Id=%s.service\\nActiveState=%s\\n\\n' "$u" "$(cat "$UNITS/$u")"
    done
    ;;
start)
    shift
    for u in "$@"; do
        u=${u%.service}
        echo "$u" >>"$UNITS/../started"
        cat "$UNITS/$u.then" >"$UNITS/$u"
    done
    ;;
esac
"""


def run(tmp_path: Path, states: dict[str, str], *, revive: bool, seconds: int = 1) -> tuple[int, str]:
    """Run the operation with a systemctl that reads its answers from files."""
    units = tmp_path / "units"
    units.mkdir(exist_ok=True)
    for unit, state in states.items():
        (units / unit).write_text(state + "\n")
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", "#!/bin/sh\necho last line of $2\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    names = tuple(unit for unit in states if "." not in unit)
    script = f"op() {{\n{Running(names, seconds, revive).shell()}\n}}\nop"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "UNITS": str(units)}
    done = process.run(["sh", "-c", script], env=env, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_active_units_pass(tmp_path: Path) -> None:
    assert run(tmp_path, {"a": "active", "b": "active"}, revive=False) == (0, "")


def test_an_idle_unit_whose_socket_listens_is_well_and_without_its_socket_it_is_not(tmp_path: Path) -> None:
    states = {"a": "inactive", "a.by": "a.socket", "a.socket": "active"}
    assert run(tmp_path, states, revive=False) == (0, "")
    assert run(tmp_path, {**states, "a.socket": "inactive"}, revive=False)[0] == 1


def test_a_unit_that_only_starts_is_waited_for_and_then_named(tmp_path: Path) -> None:
    began = time.monotonic()
    status, said = run(tmp_path, {"a": "active", "b": "activating"}, revive=False, seconds=2)
    assert (status, said) == (1, "unit b.service is activating: last line of b.service\n")
    assert time.monotonic() - began >= 1


def test_a_failed_unit_is_named_at_once_where_nothing_is_to_be_touched(tmp_path: Path) -> None:
    began = time.monotonic()
    assert run(tmp_path, {"a": "failed", "b": "failed"}, revive=False, seconds=60)[0] == 1
    assert time.monotonic() - began < 20
    assert not (tmp_path / "started").exists()


def test_failed_units_are_started_once_more(tmp_path: Path) -> None:
    states = {"a": "failed", "a.then": "active", "b": "failed", "b.then": "active", "c": "active"}
    assert run(tmp_path, states, revive=True, seconds=30) == (0, "")
    assert (tmp_path / "started").read_text().split() == ["a", "b"]


def test_a_unit_that_fails_again_is_not_started_for_ever(tmp_path: Path) -> None:
    began = time.monotonic()
    status, said = run(tmp_path, {"a": "failed", "a.then": "failed"}, revive=True, seconds=60)
    assert (status, said) == (1, "unit a.service is failed: last line of a.service\n")
    assert (tmp_path / "started").read_text().split() == ["a"]
    assert time.monotonic() - began < 20
