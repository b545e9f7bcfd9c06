"""What breaks beside labctl's own files, as the functions of look.sh see it: daemons are answers of the test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from looking import seen
from support import ROOT, specify

from labctl.diagnose import apis, probes
from labctl.services.base import Context
from labctl.topology.stages import STAGES


def test_tables_are_of_the_last_revision_of_the_installed_release(tmp_path: Path) -> None:
    versions = tmp_path / "site/cake/db/versions"
    versions.mkdir(parents=True)
    (tmp_path / "site/cake/__init__.py").write_text("")
    (versions / "a1_first.py").write_text("revision = 'a1'\ndown_revision = None\n")
    (versions / "b2_second.py").write_text("revision = 'b2'\ndown_revision = 'a1'\n")
    python = f"#!/usr/bin/env -S PYTHONPATH={tmp_path}/site python3\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cake-manage").write_text(python)
    (tmp_path / "bin/cake-manage").chmod(0o755)

    def tables(count: int, revision: str) -> tuple[int, str]:
        answer = f'case "$*" in *information_schema*) echo {count} ;; *) echo {revision} ;; esac'
        return seen("look_tables cake cake", tmp_path, {"mysql": answer})

    assert tables(9, "b2") == (0, "")
    assert tables(9, "a1") == (1, "cake is at a1, and b2_second was not applied\n")
    assert tables(0, "") == (1, "cake has 0 tables\n")
    # before Alembic, releases counted their revisions
    counted = 'case "$*" in *information_schema*) echo 9 ;; *) exit 1 ;; esac'
    assert seen("look_tables cake cake", tmp_path, {"mysql": counted}) == (0, "")


def test_an_image_is_what_its_format_says(tmp_path: Path) -> None:
    for name, content in (
        ("1", b"QFI\xfb\0"),
        ("2", b"\0\0\0\0"),
        ("3", b"QFI\xfb\0"),
        ("4", b"\0\0\0\0"),
        ("5", b"x"),
    ):
        (tmp_path / name).write_bytes(content)
    rows = "printf '%s\\t%s\\t%s\\n' 1 qcow2 good 2 raw good 3 raw 'a layer' 4 qcow2 'a disk' 5 vmdk other 6 raw away"
    said = "the image a layer (3) is not raw\nthe image a disk (4) is not qcow2\n"
    assert seen(f"look_images {tmp_path}", tmp_path, {"mysql": rows}) == (1, said)
    assert seen(f"look_images {tmp_path}", tmp_path, {"mysql": "printf '1\\tqcow2\\tgood\\n'"}) == (0, "")


def test_a_name_server_that_does_not_answer_takes_time(tmp_path: Path) -> None:
    assert seen("look_resolver", tmp_path, {"getent": "exit 2"}) == (0, "")
    status, said = seen("look_resolver", tmp_path, {"getent": "sleep 4; exit 2"})
    assert status == 1
    assert said.startswith("an unknown name takes ")


def test_a_process_that_is_short_of_descriptors_is_named(tmp_path: Path) -> None:
    opened = "import time; kept = [open('/dev/null') for _ in range(20)]; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        ["prlimit", "--nofile=24:300", sys.executable, "-c", opened], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            status, said = seen("look_descriptors", tmp_path)
            subprocess.run(["prlimit", "--nofile=300:300", "--pid", str(process.pid)], check=True)
            after = seen("look_descriptors", tmp_path)[1]
        finally:
            process.kill()
    assert (status, " of at most 24 open files" in said) == (1, True)
    assert " of at most 300 " not in after


def test_a_unit_that_was_changed_by_hand_names_the_file(tmp_path: Path) -> None:
    paths = "/etc/systemd/system/x-.service.d/labctl.conf /etc/systemd/system/x.service.d/limits.conf"

    def unit(active: str, more: str = "") -> tuple[int, str]:
        answer = (
            f'case "$*" in is-active*) echo {active} ;; is-enabled*) echo enabled ;; *NRestarts*) echo NRestarts=3 ;; '
            f"*DropInPaths*) echo {paths} {more} ;; esac"
        )
        call = "look_unit x /etc/systemd/system/x.service.d/limits.conf"
        return seen(call, tmp_path, {"systemctl": answer, "journalctl": "true"})

    assert unit("active", "/etc/y.conf") == (0, "")
    assert unit("failed") == (1, "is failed\n")
    assert unit("activating", "/etc/y.conf") == (1, "changed by /etc/y.conf; keeps restarting, 3 times by now\n")


def test_a_fix_of_more_than_one_command_goes_to_a_shell() -> None:
    spec = specify(ROOT / "topologies" / "zed-2node.yaml")
    ctx = Context.of(spec)
    made = [probe for node in spec.nodes.values() for probe in probes.of_node(ctx, node, STAGES) if probe.fix]
    assert {probe.words.startswith("sh -c ") for probe in made} == {True, False}
    assert all(probe.words == probe.fix for probe in made if not re.search("[;|*]", probe.fix))


def test_why_a_server_has_no_host_is_told_apart() -> None:
    host = {"status": "enabled", "state": "up", "vcpus": 2, "memory_mb": 4096, "local_gb": 20}
    flavor = {"vcpus": 1, "ram": 512, "disk": 1}
    assert apis.why_no_host(flavor, [{**host, "state": "down"}]) == "no nova-compute is up and enabled"
    large = apis.why_no_host({**flavor, "ram": 1048576}, [host])
    assert large == "its flavor wants 1048576 MiB of memory, and the largest host has 4096"
    assert "vCPUs" in apis.why_no_host({**flavor, "vcpus": 64}, [host])
    assert "GB of disk" in apis.why_no_host({**flavor, "disk": 21}, [host])
    assert apis.why_no_host(flavor, [host]).startswith("the hosts are full")


def test_bridges_are_looked_at_in_labs_without_an_overlay() -> None:
    context = Context.of(specify(ROOT / "topologies" / "zed-2node.yaml"))
    calls = [probe.call for probe in probes.of_node(context, context.lab.nodes["controller"], STAGES)]
    assert ("look_bridges",) in calls
    assert all(call[0] != "look_address" for call in calls)


def test_nothing_is_missed_that_up_has_not_made_yet() -> None:
    context = Context.of(specify(ROOT / "topologies" / "zed-2node.yaml"))
    node = context.lab.nodes["controller"]
    calls = {stage: probes.of_node(context, node, STAGES[: n + 1]) for n, stage in enumerate(STAGES)}
    assert calls["packages"] == ()
    assert "A18" not in {probe.row for probe in calls["services"]}
    assert "A3" not in {probe.row for probe in calls["configure"]}
    assert {"A18", "A3", "L7"} <= {probe.row for probe in calls["compute"]}
