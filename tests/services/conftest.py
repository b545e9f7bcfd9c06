"""The plans of labs on Red Hat's family."""

from __future__ import annotations

import pytest
from support import ROOT, specify

from labctl.services.base import Context

TRAIN = ROOT / "topologies" / "train-2node.yaml"
USSURI = ROOT / "topologies" / "ussuri-6node.yaml"


@pytest.fixture
def train() -> Context:
    return Context.of(specify(TRAIN, base="centos7"))


@pytest.fixture
def ussuri() -> Context:
    return Context.of(specify(USSURI, base="centos8"))
