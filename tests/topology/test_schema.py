"""The JSON schema that editors complete and check topology files with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from labctl.components import Component
from labctl.topology.model import Topology
from labctl.topology.schema import schema
from labctl.topology.units import parse_disk, parse_memory


def definition(name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema()["$defs"][name]["properties"]
    return found


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(schema())) == schema()
    assert schema()["$schema"].startswith("https://json-schema.org/")


def test_every_field_of_a_topology_is_known_and_no_other() -> None:
    assert set(schema()["properties"]) == set(Topology.model_fields)
    assert schema()["additionalProperties"] is False
    assert schema()["required"] == ["name", "release", "bases", "networks", "nodes"]


def accepts(value: dict[str, Any], written: int | str) -> bool:
    """Whether a schema accepts a size; a number in a pattern is what people write in quotes."""
    for form in value.get("oneOf", [value]):
        if form["type"] == "string" and isinstance(written, str) and re.search(form["pattern"], written):
            return True
        if form["type"] == "integer" and isinstance(written, int) and written >= form["minimum"]:
            return True
    return False


def read(parser: Callable[[Any], int], written: int | str) -> bool:
    try:
        return parser(written) > 0
    except ValueError:
        return False


@pytest.mark.parametrize(
    "written", ["4 GiB", "512MiB", "10G", "1.5 gib", "4096 B", "8192", 8192, 63, "lots", "4 XiB", ""]
)
def test_the_schema_accepts_the_sizes_that_are_read(written: int | str) -> None:
    node = definition("Node")
    for memory in (node["memory"], definition("Flavor")["ram"]):
        assert accepts(memory, written) == read(parse_memory, written)
    for disk in (node["disk"], definition("Disk")["size"]):
        assert accepts(disk, written) == read(parse_disk, written)
    assert node["disk"]["description"] == "size of the system disk, like 20 GiB"


def test_a_disk_may_be_its_size() -> None:
    forms = definition("Node")["disks"]["additionalProperties"]["anyOf"]
    assert {"$ref": "#/$defs/Disk"} in forms
    assert any(accepts(form, "4 GiB") for form in forms if "pattern" in form)


def test_an_address_may_be_none_or_null() -> None:
    forms = definition("Node")["networks"]["additionalProperties"]["anyOf"]
    assert {"const": "none"} in forms
    assert {"type": "null"} in forms
    assert {"type": "string", "format": "ipv4"} in forms


def test_a_pool_may_be_a_range() -> None:
    (pattern,) = [form["pattern"] for form in definition("Network")["pool"]["anyOf"] if "pattern" in form]
    assert re.search(pattern, "203.0.113.101-203.0.113.250")
    assert not re.search(pattern, "203.0.113.101")


def test_editors_can_complete_words() -> None:
    assert "zed" in schema()["properties"]["release"]["enum"]
    assert "debian12" in schema()["properties"]["bases"]["items"]["enum"]
    assert "nspawn" in schema()["properties"]["drivers"]["items"]["enum"]
    assert schema()["$defs"]["Join"]["enum"] == ["start", "later"]
    assert schema()["$defs"]["Component"]["enum"] == [c.value for c in Component]


def test_names_follow_the_models_pattern() -> None:
    for mapping in (schema()["properties"]["nodes"], schema()["properties"]["networks"]):
        assert re.search(mapping["propertyNames"]["pattern"], "compute-1")
        assert not re.search(mapping["propertyNames"]["pattern"], "Compute_1")
