"""JSON schema of topology files, for editors: what users may write, not what the model holds."""

from __future__ import annotations

from typing import Any

from labctl import bases
from labctl.drivers import DRIVERS
from labctl.releases import RELEASES
from labctl.topology.model import NAME, Topology

_SIZE: dict[str, Any] = {
    "description": "bytes, or a number with a unit: 512 MiB, 4 GiB, 1.5 GiB",
    "oneOf": [
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[kKmMgGtT]?([iI]?[bB])?\s*$"},
    ],
}
_POOL: dict[str, Any] = {
    "type": "string",
    "description": "FIRST-LAST",
    "pattern": r"^[0-9.]+\s*-\s*[0-9.]+$",
    "examples": ["203.0.113.101-203.0.113.250"],
}


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a topology file, with the short forms that YAML allows.

    Sizes are text or bytes, a pool is ``FIRST-LAST``, an address may be ``none``, a disk may be its size.
    """
    result = Topology.model_json_schema(mode="validation")
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "labctl topology"
    definitions = result["$defs"]
    node = definitions["Node"]["properties"]
    _size(node, "memory")
    _size(node, "disk")
    _size(definitions["Disk"]["properties"], "size")
    _size(definitions["Flavor"]["properties"], "ram")
    _mapping(node["disks"], {"anyOf": [{"$ref": "#/$defs/Disk"}, _SIZE]})
    address = {"anyOf": [{"type": "string", "format": "ipv4"}, {"const": "none"}, {"type": "null"}]}
    _mapping(node["networks"], address)
    pool = definitions["Network"]["properties"]["pool"]
    pool["anyOf"] = [_POOL, *pool["anyOf"]]
    _mapping(result["properties"]["networks"], {"$ref": "#/$defs/Network"})
    _mapping(result["properties"]["nodes"], {"$ref": "#/$defs/Node"})
    result["properties"]["release"]["enum"] = list(RELEASES)
    result["properties"]["bases"]["items"]["enum"] = list(bases.TITLES)
    result["properties"]["drivers"]["items"]["enum"] = list(DRIVERS)
    return result


def _size(properties: dict[str, Any], name: str) -> None:
    given = properties[name]
    kept = {key: given[key] for key in ("default", "description", "title") if key in given}
    properties[name] = {**_SIZE, **kept}


def _mapping(target: dict[str, Any], value: dict[str, Any]) -> None:
    """Describe a mapping from names to values with one schema."""
    for key in ("additionalProperties", "patternProperties"):
        target.pop(key, None)
    target["propertyNames"] = {"pattern": NAME, **target.get("propertyNames", {})}
    target["additionalProperties"] = value
