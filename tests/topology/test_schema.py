"""The JSON schema that editors complete and check topology files with."""

from __future__ import annotations

import json
import re
from typing import Any

from labctl.components import Component
from labctl.topology.model import Topology
from labctl.topology.schema import schema
from labctl.topology.units import parse_size


def definition(name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema()["$defs"][name]["properties"]
    return found


def size_pattern(value: dict[str, Any]) -> str:
    (pattern,) = [form["pattern"] for form in value["oneOf"] if form["type"] == "string"]
    assert {"type": "integer", "exclusiveMinimum": 0} in value["oneOf"]
    return str(pattern)


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(schema())) == schema()
    assert schema()["$schema"].startswith("https://json-schema.org/")


def test_every_field_of_a_topology_is_known_and_no_other() -> None:
    assert set(schema()["properties"]) == set(Topology.model_fields)
    assert schema()["additionalProperties"] is False
    assert schema()["required"] == ["name", "release", "bases", "networks", "nodes"]


def test_a_size_is_text_or_bytes_wherever_one_is_written() -> None:
    node = definition("Node")
    sizes = [node["memory"], node["disk"], definition("Disk")["size"], definition("Flavor")["ram"]]
    for value in sizes:
        pattern = size_pattern(value)
        for text in ("4 GiB", "512MiB", "10G", "1.5 gib", "1024"):
            assert re.search(pattern, text)
            assert parse_size(text)
        for text in ("lots", "4 XiB", "-1 GiB", ""):
            assert not re.search(pattern, text)
    assert node["disk"]["description"] == "size of the system disk"


def test_a_disk_may_be_its_size() -> None:
    forms = definition("Node")["disks"]["additionalProperties"]["anyOf"]
    assert {"$ref": "#/$defs/Disk"} in forms
    assert any("oneOf" in form and size_pattern(form) for form in forms)


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
