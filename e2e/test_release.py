"""The lab runs the release that its topology says: its code, and an API that answers as this code does."""

from __future__ import annotations

import pytest

from labctl.records.lab import Lab
from labctl.testing import versions


@pytest.mark.smoke
def test_every_node_has_the_versions_of_the_release(lab):
    record = Lab.load(lab.lab)
    found = {node: versions.of_node(record, node) for node in lab.nodes}
    assert {project for each in found.values() for project in each}, "no node runs a project"
    wrong = [f"{node}: {text}" for node, each in found.items() for text in versions.foreign(record.context, each)]
    assert not wrong


@pytest.mark.smoke
@pytest.mark.needs("nova-controller")
def test_novas_api_has_the_microversions_of_the_release(lab, admin):
    newest = admin.compute.get_endpoint_data().max_microversion
    assert ".".join(map(str, newest)) == Lab.load(lab.lab).context.release.nova_microversion
