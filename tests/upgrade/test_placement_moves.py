"""Placement leaves nova between Rocky and Stein, and takes its tables with it."""

from __future__ import annotations

from pathlib import Path

from looking import seen
from support import ROOT, specify

from labctl.operations.node import flatten
from labctl.plan import hop as hops
from labctl.services import nova, placement
from labctl.services.base import Context
from labctl.upgrade import chain

HOPS = chain.plan(specify(ROOT / "topologies" / "rocky-2node.yaml"), "ussuri", kernel=False)


def test_a_lab_of_rocky_goes_on_to_ussuri() -> None:
    assert [hop.title for hop in HOPS] == ["Rocky to Stein", "Stein to Train", "Train to Ussuri"]


def test_tables_move_once_before_they_are_brought_up_to_date() -> None:
    made = [hops.hop(Context.of(hop.before), Context.of(hop.after)) for hop in HOPS]
    names = [[stage.name for stage in plan.stages] for plan in made]
    assert names[0].index("configure") < names[0].index("move") < names[0].index("databases")
    assert ["move" in found for found in names] == [True, False, False]
    before = hops.migrations(Context.of(HOPS[0].before))
    titles = [o.title for o in flatten(before.nodes["controller"])]
    assert titles == [f"online data migrations: {name}-manage" for name in ("nova", "cinder")], "nova has placement"


def test_only_novas_tables_are_dropped(tmp_path: Path) -> None:
    both = "\n".join((*placement.TABLES, "cell_mappings", "migrate_version", "request_specs"))
    mysql = f'case "$*" in *information_schema*) echo "{both}" ;; *) cat >{tmp_path}/sql ;; esac'
    status, _ = seen(placement.extracted().run, tmp_path, {"mysql": mysql})
    assert status == 0
    statements = (tmp_path / "sql").read_text().splitlines()
    assert [line for line in statements if line.startswith("DROP")] == [
        f"DROP TABLE {name};" for name in ("cell_mappings", "migrate_version", "request_specs")
    ]
    assert statements[-1] == "INSERT INTO alembic_version VALUES ('b4ed3a175331');"


def test_disks_of_guests_get_the_format_that_nova_expects(tmp_path: Path) -> None:
    """Rocky's are raw, as QEMU 7 takes no backing file whose format is left out; Stein takes each for qcow2."""
    for name, start in (("raw", "\x00\x00"), ("cow", "QFI\xfb")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "disk").write_bytes(start.encode("latin1"))
        (tmp_path / name / "disk.info").write_text(f'{{"{tmp_path}/{name}/disk": "raw"}}')
    run = nova.formatted().run.replace("/var/lib/nova/instances", str(tmp_path))
    qemu = 'case "$1 $3 $5" in "convert raw qcow2") printf QFI >"$7"; cat "$6" >>"$7" ;; *) exit 1 ;; esac'
    for _ in range(2):
        status, _ = seen(run, tmp_path, {"qemu-img": qemu})
        assert status == 0
        assert (tmp_path / "raw/disk").read_bytes() == b"QFI\x00\x00"
        assert (tmp_path / "raw/disk.info").read_text() == f'{{"{tmp_path}/raw/disk": "qcow2"}}'
        assert (tmp_path / "cow/disk").read_bytes() == b"QFI\xfb"


def test_trains_check_wants_roles_that_nobody_deletes() -> None:
    made = hops.hop(Context.of(HOPS[1].before), Context.of(HOPS[1].after))
    (adapt,) = (stage for stage in made.stages if stage.name == "adapt")
    assert [o.title for o in adapt.api] == [f"role {name} is immutable" for name in ("admin", "member", "reader")]


def test_only_the_hop_that_needs_it_formats_disks() -> None:
    found = [
        [o.title for o in flatten(stage.nodes["controller"])]
        for hop in HOPS
        for stage in hops.hop(Context.of(hop.before), Context.of(hop.after)).stages
        if stage.name == "forget"
    ]
    assert ["disks of guests are qcow2" in titles for titles in found] == [True, False, False]
