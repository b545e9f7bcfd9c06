"""The chapters of the install guides, in their order."""

from labctl.services.aodh import Aodh
from labctl.services.base import Service
from labctl.services.ceilometer import Ceilometer
from labctl.services.cinder import Cinder
from labctl.services.glance import Glance
from labctl.services.gnocchi import Gnocchi
from labctl.services.heat import Heat
from labctl.services.horizon import Horizon
from labctl.services.keystone import Keystone
from labctl.services.neutron import Neutron
from labctl.services.nova import Nova
from labctl.services.placement import Placement
from labctl.services.swift import Swift

SERVICES: tuple[Service, ...] = (
    Keystone(),
    Glance(),
    Placement(),
    Nova(),
    Neutron(),
    Cinder(),
    Swift(),
    Heat(),
    Horizon(),
    Gnocchi(),
    Ceilometer(),
    Aodh(),
)
