"""Ports of networks whose mechanism driver has changed."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.engine.client import Client

#: What neutron calls the binding of a port that no mechanism driver has bound (neutron-lib: definitions/portbindings).
_LOOSE = ("unbound", "binding_failed")


def delete(client: Client, owners: Iterable[str]) -> None:
    """Delete the ports of these owners."""
    for owner in owners:
        for port in client.get("network", f"/v2.0/ports?device_owner={owner}")["ports"]:
            client.delete("network", f"/v2.0/ports/{port['id']}")


def bind(client: Client) -> str:
    """Ask for the binding of every port that has a host and no binding there; returns which had none, empty if none.

    Any update of such a port binds it (neutron: plugins/ml2/plugin.py, _bind_port_if_needed).
    """
    found = client.get("network", "/v2.0/ports")["ports"]
    loose = [port for port in found if port["binding:host_id"] and port["binding:vif_type"] in _LOOSE]
    for port in loose:
        same = {"port": {"binding:host_id": port["binding:host_id"]}}
        client.put("network", f"/v2.0/ports/{port['id']}", same)
    return f"not bound: {', '.join(port['id'] for port in loose)}" if loose else ""
