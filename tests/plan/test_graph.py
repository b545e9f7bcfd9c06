"""A lab drawn: every network, node and card is there, at the same place each time, whatever its names."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commandline import Labctl
from support import SMALL, TOPOLOGIES, specify, variants, write

from labctl.drivers.fake import Fake
from labctl.plan import drawing
from labctl.plan.graph import data, graph, mermaid

SVG = "{http://www.w3.org/2000/svg}"
every_variant = pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))


@every_variant
def test_everything_of_a_lab_is_in_its_drawing(topology: Path, base: str) -> None:
    spec = specify(topology, base=base)
    drawn = graph(spec)
    root = ElementTree.fromstring(drawing.svg(drawn))
    texts = [item.text or "" for item in root.iter(f"{SVG}text")]
    together = "\n".join(texts).replace(",\n", ", ").replace(",", " ").split()
    for network in spec.networks.values():
        assert any(text.startswith(f"{network.name} {network.cidr}") for text in texts)
    for node in (*spec.nodes.values(), *spec.later.values()):
        assert node.name in texts
        assert {component.value for component in node.runs} <= set(together)
        for card in node.interfaces:
            assert str(card.address or "no address") in texts
    cards = sum(len(node.interfaces) for node in (*spec.nodes.values(), *spec.later.values()))
    assert len(list(root.iter(f"{SVG}circle"))) == cards
    assert drawing.svg(graph(spec)) == drawing.svg(drawn)


@every_variant
def test_nothing_is_drawn_over_something_else_or_outside(topology: Path, base: str) -> None:
    root = ElementTree.fromstring(drawing.svg(graph(specify(topology, base=base))))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes = [tuple(float(r.get(k, 0)) for k in ("x", "y", "width", "height")) for r in root.iter(f"{SVG}rect")][1:]
    for x, y, wide, high in boxes:
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
    for one, other in combinations(boxes, 2):
        assert one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0]
    lines = {(r.get("x1"), r.get("y1")) for r in root.iter(f"{SVG}line")}
    assert len(lines) == len(list(root.iter(f"{SVG}line"))), "no card hides another"


def test_a_graph_names_its_cards_in_mermaid_and_json() -> None:
    (topology,) = [path for path in TOPOLOGIES if path.stem == "zed-2node"]
    drawn = graph(specify(topology))
    text = mermaid(drawn)
    assert 'network0(["management 10.0.0.0/24"])' in text
    assert 'network0 ---|"eth0 10.0.0.11"| node0' in text
    assert 'node1["<b>compute</b><br/>2 CPUs, 2 GiB<br/>nova-compute' in text
    plain = json.loads(json.dumps(data(drawn)))
    assert [node["name"] for node in plain["nodes"]] == ["controller", "compute"]
    assert plain["nodes"][0]["cards"][0]["address"] == "10.0.0.11"


def test_a_lab_is_drawn_with_the_nodes_that_it_has(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    assert labctl("up", path, "--name", "mine")[0] == 0
    status, out, _ = labctl("graph", "mine", "-o", "json")
    assert (status, json.loads(out)["lab"]) == (0, "mine")
    assert labctl("graph", path, "-o", "mermaid")[1].startswith("---\ntitle: small\n")
    assert ElementTree.fromstring(labctl("graph", path)[1]).tag == f"{SVG}svg"
    status, _, err = labctl("graph", "no-such-lab")
    assert status == 1
    assert "unknown topology 'no-such-lab'" in err


def test_topologies_of_the_directory_and_labctl_s_own_are_listed(
    labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SMALL)
    write(tmp_path, SMALL.replace("10.0.0.12", "10.0.0.999"), "wrong.yaml")
    write(tmp_path, "a: b\n", "other.yaml")
    rows = {row["name"]: row for row in json.loads(labctl("topologies", "-o", "json")[1])}
    assert {path.stem for path in TOPOLOGIES} <= set(rows)
    assert (rows["lab.yaml"]["release"], rows["lab.yaml"]["nodes"], rows["lab.yaml"]["memory"]) == ("zed", 2, "1 GiB")
    assert "wrong.yaml:" in rows["wrong.yaml"]["description"]
    assert "other.yaml" not in rows
    assert all(row["description"] for name, row in rows.items() if name != "lab.yaml")
    assert "zed-2node" in labctl("topologies")[1]
