"""JSON schema of topology files, for editors: what users may write, not what the model holds."""

from __future__ import annotations

from typing import Any

from labctl import bases
from labctl.drivers import DRIVERS
from labctl.releases import NUMBERS, RELEASES
from labctl.topology.model import NAME, VLANS, Topology
from labctl.topology.units import LEAST_MEMORY

_NUMBER = r"^\s*[0-9]+(\.[0-9]+)?\s*"
_MEMORY: dict[str, Any] = {
    "description": "a number with a unit: 512 MiB, 4 GiB, 1.5 GiB; a plain number is MiB",
    "oneOf": [
        {"type": "integer", "minimum": LEAST_MEMORY},
        {"type": "string", "pattern": _NUMBER + r"[kKmMgGtT]?([iI]?[bB])?\s*$"},
    ],
}
_DISK: dict[str, Any] = {
    "description": "a number with a unit: 512 MiB, 4 GiB, 1.5 GiB",
    "type": "string",
    "pattern": _NUMBER + r"([kKmMgGtT]([iI]?[bB])?|[bB])\s*$",
}
_POOL: dict[str, Any] = {
    "type": "string",
    "description": "FIRST-LAST",
    "pattern": r"^[0-9.]+\s*-\s*[0-9.]+$",
    "examples": ["203.0.113.101-203.0.113.250"],
}


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a topology file, with the short forms that YAML allows.

    Memory is text or MiB, a disk's size text (a disk may be just that), a pool is ``FIRST-LAST``,
    an address may be ``none``.
    """
    result = Topology.model_json_schema(mode="validation")
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "labctl topology"
    definitions = result["$defs"]
    node = definitions["Node"]["properties"]
    _size(node, "memory", _MEMORY)
    _size(node, "disk", _DISK)
    _size(definitions["Disk"]["properties"], "size", _DISK)
    _size(definitions["Flavor"]["properties"], "ram", _MEMORY)
    _mapping(node["disks"], {"anyOf": [{"$ref": "#/$defs/Disk"}, _DISK]})
    address = {"anyOf": [{"type": "string", "format": "ipv4"}, {"const": "none"}, {"type": "null"}]}
    _mapping(node["networks"], address)
    pool = definitions["Network"]["properties"]["pool"]
    pool["anyOf"] = [_POOL, *pool["anyOf"]]
    vlans = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": VLANS}]}
    network = definitions["Network"]["properties"]
    network["vlans"] = {**network["vlans"], "anyOf": [*vlans["anyOf"], {"type": "array", "items": vlans}]}
    for name in ("type", "items"):
        network["vlans"].pop(name)
    _mapping(result["properties"]["networks"], {"$ref": "#/$defs/Network"})
    _mapping(result["properties"]["nodes"], {"$ref": "#/$defs/Node"})
    result["properties"]["release"]["enum"] = [*RELEASES, *NUMBERS]
    result["properties"]["bases"]["items"]["enum"] = list(bases.TITLES)
    result["properties"]["drivers"]["items"]["enum"] = list(DRIVERS)
    return result


def _size(properties: dict[str, Any], name: str, kind: dict[str, Any]) -> None:
    given = properties[name]
    kept = {key: given[key] for key in ("default", "description", "title") if key in given}
    properties[name] = {**kind, **kept}


def _mapping(target: dict[str, Any], value: dict[str, Any]) -> None:
    """Describe a mapping from names to values with one schema."""
    for key in ("additionalProperties", "patternProperties"):
        target.pop(key, None)
    target["propertyNames"] = {"pattern": NAME, **target.get("propertyNames", {})}
    target["additionalProperties"] = value
