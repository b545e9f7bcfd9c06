"""The chapters of the install guides, in their order."""

from labctl.services.base import Service
from labctl.services.glance import Glance
from labctl.services.keystone import Keystone
from labctl.services.neutron import Neutron
from labctl.services.nova import Nova
from labctl.services.placement import Placement

SERVICES: tuple[Service, ...] = (Keystone(), Glance(), Placement(), Nova(), Neutron())
