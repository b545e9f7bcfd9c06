"""Servers of an OpenStack cloud as the machines of a lab (docs/openstack.md)."""
