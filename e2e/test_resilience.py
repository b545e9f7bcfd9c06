"""Recovery from failures: the message bus, the database, a compute node, the network between nodes.

Each test injects one fault, waits until the lab reports it, heals it, and expects every unit and agent to recover
unaided; then a new guest must boot, answer ping and accept SSH on its floating IP.
"""

from __future__ import annotations

import threading
import time

import pytest

from labctl.components import Component
from labctl.host import process
from labctl.records import cloud
from labctl.testing import resources
from labctl.testing.waits import wait_for

pytestmark = [
    pytest.mark.destructive,
    pytest.mark.needs("nova-compute", "neutron-l3", "rabbitmq", "mariadb"),
]

PING_DEADLINE = 60  # seconds until a guest that accepts SSH also answers ping
NOTICED = 180  # nova reports a service down 60 s after its last heartbeat, neutron an agent after 75 s
OUTAGE = 10  # seconds without the message bus
QUIET = 60  # seconds until the load succeeds again after the lab has recovered


class Load:
    """Two threads that create and delete ports in a loop: each time neutron sends messages to the agents."""

    def __init__(self, project, network, name):
        self._end = threading.Event()
        self.succeeded = []
        self.failed = []
        self._threads = [
            threading.Thread(target=self._work, args=(project, network.id, name(f"load-{n}")), daemon=True)
            for n in range(2)
        ]

    def _work(self, project, network_id, name):
        net = cloud.connect(project.lab, project.user, project.password, project.name).network
        while not self._end.is_set():
            try:
                port = net.create_port(name=name, network_id=network_id)
                net.delete_port(port.id, ignore_missing=False)
                self.succeeded.append(time.monotonic())
            except Exception as error:  # expected while the bus is down; it must stop after recovery
                self.failed.append(f"{type(error).__name__}: {error}")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(cloud.REQUEST_TIMEOUT * 2)

    def wait_success(self, since, deadline):
        wait_for(
            "ports to be made and deleted",
            lambda: [at for at in self.succeeded if at > since],
            done=lambda seen: len(seen) >= 4,
            deadline=deadline,
            show=lambda seen: f"{len(seen)} times; last failures {self.failed[-3:]}",
        )


def ping(address):
    return process.run(["ping", "-c", "3", "-i", "0.3", "-W", "2", address], check=False).returncode == 0


@pytest.fixture
def smoke(boot, ssh):
    """Boot a new guest and check SSH and ping on its floating IP."""

    def smoke():
        guest = ssh(boot("after"))
        assert guest.output("echo in") == "in"
        wait_for(f"ping of {guest.address}", lambda: ping(guest.address), done=bool, deadline=PING_DEADLINE)

    return smoke


def is_lost(binary, node):
    return lambda ailing: f"{binary} on {node}" in ailing


def test_rabbitmq_restarted_under_load(project, network, name, smoke, faults):
    node = faults.host(Component.RABBITMQ)
    with Load(project, network, name) as load:
        load.wait_success(0, QUIET)
        faults("service", "stop", node, "rabbitmq")
        time.sleep(OUTAGE)
        faults("service", "start", node, "rabbitmq")
        back = time.monotonic()
        print(f"recovered after {faults.wait_recovered():.0f} s, {len(load.failed)} failures under load")
        load.wait_success(back, QUIET)
    smoke()


def test_mariadb_killed_and_back(smoke, faults):
    node = faults.host(Component.MARIADB)
    faults("service", "kill", node, "mariadb")
    faults.heal()
    print(f"recovered after {faults.wait_recovered():.0f} s")
    smoke()


def test_compute_node_killed_and_back(project, boot, ssh, smoke, name, faults):
    compute = project.connection.compute
    server = boot("survivor")
    guest = ssh(server)
    written = name("kept")
    guest.run(f"echo {written} > kept && sync")
    node = faults.host(Component.NOVA_COMPUTE)

    faults("node", "kill", node)
    faults.wait_lost(f"nova to report {node} down", is_lost("nova-compute", node), NOTICED)
    faults.heal()
    print(f"recovered after {faults.wait_recovered():.0f} s")

    # the host died with its guests, and nova restarts them only on request
    compute.reboot_server(server.id, "HARD")
    resources.wait_server(project.connection, server)
    guest.connect()
    assert guest.output("cat kept") == written
    smoke()


def test_partition_between_controller_and_compute_healed(project, boot, ssh, smoke, faults):
    controller, node = faults.host(Component.RABBITMQ), faults.host(Component.NOVA_COMPUTE)
    if controller == node:
        pytest.skip(f"{node} runs both RabbitMQ and nova-compute")
    server = boot("apart")
    guest = ssh(server)
    boot_id = guest.output("cat /proc/sys/kernel/random/boot_id")

    faults("link", "cut", node, faults.state.spec.management.name)
    faults.wait_lost(f"nova to report {node} down", is_lost("nova-compute", node), NOTICED)
    assert project.connection.compute.get_server(server.id).status == "ACTIVE"
    faults.heal()
    print(f"recovered after {faults.wait_recovered():.0f} s")

    guest.connect()
    assert guest.output("cat /proc/sys/kernel/random/boot_id") == boot_id, "the guest was restarted"
    smoke()
