"""Placement leaves nova between Rocky and Stein, and takes its tables with it."""

from __future__ import annotations

from pathlib import Path

from looking import seen
from support import ROOT, specify

from labctl.operations.node import flatten
from labctl.plan import hop as hops
from labctl.services import placement
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
