"""Upgrades of labs: from one release to the next, with everything alive afterwards."""
