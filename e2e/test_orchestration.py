"""Heat: the notes' sample stack, a whole topology as a stack, and failures that are cleaned up."""

from __future__ import annotations

import pytest

from labctl.testing import resources, stacks
from labctl.testing.waits import FailedStateError, wait_for

pytestmark = pytest.mark.needs("heat")


def outputs(stack):
    return {output["output_key"]: output["output_value"] for output in stack.outputs}


def own(project, listed):
    """The ids of the project's own resources of one kind, without those that others share with it."""
    return {seen.id for seen in listed() if seen.project_id == project.id}


@pytest.mark.smoke
def test_sample_stack_of_the_notes_gives_its_server_s_address_and_is_updated(lab, project, network, name):
    heat, nova = project.connection.orchestration, project.connection.compute
    server = {
        "type": "OS::Nova::Server",
        "properties": {
            "name": name("heat"),
            "image": {"get_param": "ImageID"},
            "flavor": lab.flavors[0],
            "networks": [{"network": {"get_param": "NetID"}}],
        },
    }
    sample = stacks.template(
        {"server1": server},
        {"server1_private_ip": {"value": {"get_attr": ["server1", "first_address"]}}},
        {"ImageID": {"type": "string"}, "NetID": {"type": "string"}},
    )
    parameters = {"ImageID": lab.image, "NetID": network.id}
    stack_id = stacks.create(heat, name("sample"), sample, parameters)
    stack = stacks.wait(heat, stack_id, "CREATE_COMPLETE")
    (made,) = nova.servers()
    assert outputs(stack)["server1_private_ip"] == resources.fixed_address(project, made)

    server["properties"]["metadata"] = {"changed": "yes"}
    sample["outputs"]["more"] = {"value": "new"}
    stack = stacks.update(heat, stack_id, sample, parameters)
    assert outputs(stack)["more"] == "new"
    (kept,) = nova.servers()
    assert kept.id == made.id
    assert kept.metadata["changed"] == "yes"

    stacks.delete(heat, stack_id)
    stacks.wait_servers_gone(project)


@pytest.mark.needs("cinder-volume")
def test_stack_with_network_router_volume_and_floating_ip_is_reached_and_leaves_nothing(
    lab, project, keypair, security_group, name, ssh
):
    heat, neutron = project.connection.orchestration, project.connection.network
    parts = {
        "net": {"type": "OS::Neutron::Net"},
        "subnet": {
            "type": "OS::Neutron::Subnet",
            "properties": {"network": {"get_resource": "net"}, "cidr": "172.16.78.0/24"},
        },
        "router": {
            "type": "OS::Neutron::Router",
            "properties": {"external_gateway_info": {"network": lab.external_network}},
        },
        "interface": {
            "type": "OS::Neutron::RouterInterface",
            "properties": {"router": {"get_resource": "router"}, "subnet": {"get_resource": "subnet"}},
        },
        "port": {
            "type": "OS::Neutron::Port",
            "properties": {
                "network": {"get_resource": "net"},
                "fixed_ips": [{"subnet": {"get_resource": "subnet"}}],
                "security_groups": [security_group.id],
            },
        },
        "floating": {
            "type": "OS::Neutron::FloatingIP",
            "depends_on": "interface",
            "properties": {
                "floating_network": lab.external_network,
                "port_id": {"get_resource": "port"},
            },
        },
        "server": {
            "type": "OS::Nova::Server",
            "properties": {
                "name": name("stacked"),
                "image": lab.image,
                "flavor": lab.flavors[0],
                "key_name": keypair.name,
                "config_drive": resources.wants_config_drive(lab),
                "networks": [{"port": {"get_resource": "port"}}],
            },
        },
        "volume": {"type": "OS::Cinder::Volume", "properties": {"size": 1}},
        "attachment": {
            "type": "OS::Cinder::VolumeAttachment",
            "properties": {
                "instance_uuid": {"get_resource": "server"},
                "volume_id": {"get_resource": "volume"},
            },
        },
    }
    networks, routers = own(project, neutron.networks), own(project, neutron.routers)
    body = stacks.template(parts, {"address": {"value": {"get_attr": ["floating", "floating_ip_address"]}}})
    stack_id = stacks.create(heat, name("whole"), body)
    stack = stacks.wait(heat, stack_id, "CREATE_COMPLETE")
    (server,) = project.connection.compute.servers()
    guest = ssh(server)
    assert guest.address == outputs(stack)["address"]
    disks = wait_for(
        "the volume's disk in the guest",
        lambda: guest.output("ls /sys/block").split(),
        done=lambda seen: "vdb" in seen,
        deadline=60,
    )
    assert int(guest.output("cat /sys/block/vdb/size")) * 512 == 1024**3, disks
    guest.close()

    stacks.delete(heat, stack_id)
    stacks.wait_servers_gone(project)
    assert list(project.connection.block_storage.volumes()) == []
    assert list(neutron.ips()) == []
    assert own(project, neutron.routers) == routers
    assert own(project, neutron.networks) == networks


def test_failing_template_rolls_back_what_it_made(project, name):
    heat, neutron = project.connection.orchestration, project.connection.network
    network = name("rolled-back")
    parts = {
        "net": {"type": "OS::Neutron::Net", "properties": {"name": network}},
        "subnet": {
            "type": "OS::Neutron::Subnet",
            # the gateway's address is in the allocation pool: neutron refuses it, not heat
            "properties": {
                "network": {"get_resource": "net"},
                "cidr": "172.16.79.0/24",
                "gateway_ip": "172.16.79.5",
                "allocation_pools": [{"start": "172.16.79.2", "end": "172.16.79.20"}],
            },
        },
    }
    stack_id = stacks.create(heat, name("failing"), stacks.template(parts), rollback=True)
    wait_for(
        "the roll-back",
        lambda: stacks.fetched(heat, stack_id),
        done=lambda seen: seen is None or seen.status == "ROLLBACK_COMPLETE",
        failed=lambda seen: seen.status_reason if seen and seen.status == "ROLLBACK_FAILED" else None,
        deadline=stacks.DEADLINE,
        show=lambda seen: f"{seen.status}: {seen.status_reason}",
    )
    made = [e.resource_status for e in heat.stack_events(stack_id) if e.resource_name == "net"]
    assert "CREATE_COMPLETE" in made, "heat never reached the failing resource"
    assert list(neutron.networks(name=network)) == []


def test_failing_template_without_roll_back_says_why(project, name):
    heat, neutron = project.connection.orchestration, project.connection.network
    networks = own(project, neutron.networks)
    parts = {
        "net": {"type": "OS::Neutron::Net"},
        "subnet": {
            "type": "OS::Neutron::Subnet",
            "properties": {
                "network": {"get_resource": "net"},
                "cidr": "172.16.80.0/24",
                "gateway_ip": "172.16.80.5",
                "allocation_pools": [{"start": "172.16.80.2", "end": "172.16.80.20"}],
            },
        },
    }
    stack_id = stacks.create(heat, name("failing"), stacks.template(parts))
    with pytest.raises(FailedStateError, match=r"CREATE_FAILED.*subnet"):
        stacks.wait(heat, stack_id, "CREATE_COMPLETE")
    stacks.delete(heat, stack_id)
    assert own(project, neutron.networks) == networks
