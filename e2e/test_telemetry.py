"""Telemetry: guests and resources are measured, alarms follow, and a stack grows and shrinks by them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from labctl.records.lab import Lab
from labctl.testing import resources, stacks
from labctl.testing.telemetry import Telemetry, hook
from labctl.testing.waits import wait_for

pytestmark = pytest.mark.needs("ceilometer", "gnocchi")

NANOSECONDS = 1_000_000_000
#: Seconds beyond the intervals: metricd's own delay, and an agent that polls while guests boot.
SLACK = 45


@pytest.fixture(scope="module")
def interval(lab):
    """Seconds between two measures."""
    return Lab.load(lab.lab).spec.telemetry_interval


@pytest.fixture
def seen(project):
    """Telemetry as the project's user sees it."""
    return Telemetry(project.connection)


def within(interval, intervals):
    return intervals * interval + SLACK


def measured(seen, resource, metric, deadline, *, points=1, method="mean"):
    """Wait for measures of a resource and return them."""
    return wait_for(
        f"{points} measures of {metric} ({method})",
        lambda: seen.measures(resource, metric, method),
        done=lambda found: len(found) >= points,
        deadline=deadline,
        interval=3,
    )


def counting(seen, resource, metric, interval, least=0):
    """Wait until a metric is more than some value and return it: the first measure may be of a guest that boots."""
    return wait_for(
        f"{metric} to be more than {least}",
        lambda: [point.value for point in seen.measures(resource, metric)[-1:]],
        done=lambda newest: newest and newest[0] > least,
        deadline=within(interval, 3),
        interval=5,
    )[0]


def rate(seen, resource, interval):
    """The share of one processor that a server had in the newest whole interval."""
    return seen.measures(resource, "cpu", "rate:mean")[-1].value / (interval * NANOSECONDS)


def busy_loop(guest):
    """Keep the guest's processor busy and return the process's number."""
    return int(guest.output("nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!"))


@pytest.mark.smoke
def test_guest_is_measured_and_a_busy_one_shows(lab, project, other_project, boot, ssh, seen, interval):
    server = boot("measured")
    measured(seen, server.id, "cpu", within(interval, 3))
    flavor = project.connection.compute.get_flavor(resources.flavor_id(project))
    # nothing is used, says the hypervisor, until the guest has loaded its balloon's driver
    assert counting(seen, server.id, "memory.usage", interval) <= flavor.ram
    counting(seen, server.id, "cpu", interval, least=NANOSECONDS / 10)

    guest = ssh(server)
    guest.root("dd if=/dev/vda of=/dev/null bs=1M count=8; sync")
    for kind, metrics in {
        "instance_disk": ("disk.device.read.bytes", "disk.device.write.bytes"),
        "instance_network_interface": ("network.incoming.bytes", "network.outgoing.bytes"),
    }.items():
        (part,) = wait_for(f"one {kind}", lambda kind=kind: seen.resources(kind, server.id), done=bool, deadline=SLACK)
        for metric in metrics:
            measured(seen, part["id"], metric, SLACK)
        counting(seen, part["id"], metrics[0], interval, least=1024)

    measured(seen, server.id, "cpu", within(interval, 3), method="rate:mean")
    idle = wait_for(
        "the guest to be idle after its boot",
        lambda: rate(seen, server.id, interval),
        done=lambda share: share < 0.3,
        deadline=within(interval, 6),
        interval=5,
    )
    busy_loop(guest)
    busy = wait_for(
        "the busy loop to show",
        lambda: rate(seen, server.id, interval),
        done=lambda share: share > max(0.35, 2 * idle),
        deadline=within(interval, 4),
        interval=5,
    )
    assert busy < 1.5, "more than its one processor"

    stranger = Telemetry(other_project.connection)
    assert stranger.resource("instance", server.id) is None
    assert stranger.measures(server.id, "cpu") == []

    resources.delete_server(project.connection, server)
    ended(seen, "instance", server.id)


def ended(seen, kind, resource):
    """Wait until a resource is known to be gone: else it would count for ever in a scaling group."""
    wait_for(
        f"the {kind} to have ended",
        lambda: seen.resource(kind, resource),
        done=lambda found: found["ended_at"],
        deadline=90,
        interval=2,
    )


@pytest.mark.needs("cinder-volume", "neutron-l3")
def test_volume_image_and_floating_ip_appear_and_go(lab, project, other_project, name, seen, interval):
    cloud = project.connection
    volume = resources.wait_volume(cloud, cloud.block_storage.create_volume(name=name("counted"), size=1))
    image = cloud.image.create_image(
        name("counted"),
        data=b"x" * 4096,
        disk_format="raw",
        container_format="bare",
        visibility="private",
        allow_duplicates=True,
        validate_checksum=False,
    )
    address = cloud.network.create_ip(floating_network_id=resources.external_network_id(project))
    made = {
        ("volume", volume.id): ("volume.size", 1),
        ("image", image.id): ("image.size", 4096),
        ("network", address.id): ("ip.floating", None),  # its state, numbered otherwise in each release
    }
    stranger = Telemetry(other_project.connection)
    for (kind, resource), (metric, value) in made.items():
        points = measured(seen, resource, metric, within(interval, 3))
        assert value in (None, points[-1].value), kind
        assert seen.resource(kind, resource)["project_id"] == project.id
        assert stranger.resource(kind, resource) is None
    cloud.block_storage.delete_volume(volume.id)
    cloud.image.delete_image(image.id)
    cloud.network.delete_ip(address.id)
    telling = Lab.load(lab.lab).context.release.notifying
    for kind, resource in made:
        if kind != "volume" or "cinder" in telling:
            ended(seen, kind, resource)


@pytest.mark.needs("swift-proxy")
def test_objects_of_a_project_are_counted(lab, project, other_project, name, seen, interval):
    store, container = project.connection.object_store, name("counted")
    store.create_container(container)
    for number in range(3):
        store.upload_object(container, f"object-{number}", data=b"x" * 1000)
    state = Lab.load(lab.lab)
    for node in (node.name for node in state.spec.nodes.values() if "swift-storage" in node.runs):
        with state.connect(node) as session:  # an account learns of it by its containers' next report, minutes later
            command = "swift-container-updater /etc/swift/container-server.conf once"
            result = session.run(f"runuser -u swift -- {command}", timeout=120)
            assert result.status == 0, result.stderr
    for metric, value in {"storage.objects": 3, "storage.objects.size": 3000}.items():
        wait_for(
            f"{metric} to be {value}",
            lambda metric=metric: [point.value for point in seen.measures(project.id, metric)[-1:]],
            done=lambda newest, value=value: newest == [value],
            deadline=within(interval, 3),
            interval=3,
        )
    assert seen.resource("swift_account", project.id)["project_id"] == project.id
    assert Telemetry(other_project.connection).resource("swift_account", project.id) is None


@pytest.mark.needs("aodh")
def test_alarm_follows_the_load_of_a_guest_and_calls_its_hook(lab, boot, ssh, name, seen, interval):
    server = boot("watched")
    guest = ssh(server)
    with hook(lab.lab) as called:
        alarm = seen.make_alarm(
            name("hot"),
            type="gnocchi_resources_threshold",
            alarm_actions=[called.url],
            ok_actions=[called.url],
            gnocchi_resources_threshold_rule={
                "metric": "cpu",
                "resource_id": server.id,
                "resource_type": "instance",
                "aggregation_method": "rate:mean",
                "granularity": interval,
                "evaluation_periods": 1,
                "comparison_operator": "gt",
                "threshold": 0.35 * interval * NANOSECONDS,
            },
        )
        try:
            assert seen.alarm(alarm)["state"] == "insufficient data"

            def state(wanted):
                wait_for(
                    f"the alarm to be {wanted}",
                    lambda: seen.alarm(alarm),
                    done=lambda found: found["state"] == wanted,
                    deadline=within(interval, 8),
                    interval=3,
                    show=lambda found: f"{found['state']}: {found['state_reason']}",
                )

            state("ok")
            process = busy_loop(guest)
            state("alarm")
            wait_for("the web hook to be called", lambda: called.calls, done=is_told("alarm"), deadline=SLACK)
            guest.run(f"kill {process}")
            state("ok")
            wait_for(
                "the web hook to be called again", lambda: called.calls, done=is_told("ok", "alarm"), deadline=SLACK
            )
            assert {call["alarm_id"] for call in called.calls} == {alarm}
            assert seen.history(alarm)[-3:] == ["ok", "alarm", "ok"]
        finally:
            seen.remove_alarm(alarm)


def is_told(current, previous=None):
    """True once a call said that the alarm has this state now, and that one before."""
    return lambda calls: any(call["current"] == current and previous in (None, call["previous"]) for call in calls)


@pytest.mark.needs("aodh", "heat")
def test_stack_grows_under_load_and_shrinks_again(
    lab, project, network, keypair, security_group, name, ssh, interval, record_property
):
    if "heat" not in Lab.load(lab.lab).context.release.notifying:
        pytest.skip("its heat loses the rights of a signal: docs/platform.md, Telemetry")
    heat, nova = project.connection.orchestration, project.connection.compute

    def alarm(comparison, share, policy, periods):
        query = {"list_join": ["", ['{"and": [{"=": {"server_group": "', {"get_param": "OS::stack_id"}, '"}}, ', OPEN]]}
        return {
            "type": "OS::Aodh::GnocchiAggregationByResourcesAlarm",
            "properties": {
                "metric": "cpu",
                "aggregation_method": "rate:mean",
                "granularity": interval,
                "evaluation_periods": periods,
                "comparison_operator": comparison,
                "threshold": share * interval * NANOSECONDS,
                "resource_type": "instance",
                "query": query,
                "repeat_actions": True,
                "alarm_actions": [
                    {"str_replace": {"template": "trust+url", "params": {"url": {"get_attr": [policy, "signal_url"]}}}}
                ],
            },
        }

    def scaling(step):
        return {
            "type": "OS::Heat::ScalingPolicy",
            "properties": {
                "adjustment_type": "change_in_capacity",
                "auto_scaling_group_id": {"get_resource": "group"},
                "cooldown": interval,
                "scaling_adjustment": step,
            },
        }

    server = {
        "type": "OS::Nova::Server",
        "properties": {
            "image": lab.image,
            "flavor": lab.flavors[0],
            "key_name": keypair.name,
            "networks": [{"network": network.id}],
            "security_groups": [security_group.name],
            "config_drive": resources.wants_config_drive(lab),
            "metadata": {"metering.server_group": {"get_param": "OS::stack_id"}},
        },
    }
    body = stacks.template(
        {
            "group": {
                "type": "OS::Heat::AutoScalingGroup",
                "properties": {"min_size": 1, "max_size": 2, "desired_capacity": 1, "resource": server},
            },
            "grow": scaling(1),
            "shrink": scaling(-1),
            "busy": alarm("gt", 0.35, "grow", 1),
            # a server that joins lowers the mean of the counters: from Zed on its rate is less than nothing, once
            "calm": alarm("lt", 0.12, "shrink", 2),
        }
    )
    stack_id = stacks.create(heat, name("scaled"), body)
    stacks.wait(heat, stack_id, "CREATE_COMPLETE")
    (first,) = nova.servers()

    def servers(number):
        wait_for(
            f"{number} servers in the group",
            lambda: [found for found in nova.servers() if found.status in ("ACTIVE", "BUILD")],
            done=lambda found: len(found) == number and all(each.status == "ACTIVE" for each in found),
            deadline=within(interval, 12),
            interval=5,
            show=lambda found: ", ".join(f"{each.name} {each.status}" for each in found),
        )

    guest = ssh(first)
    process = busy_loop(guest)
    servers(2)
    guest.run(f"kill {process}")
    guest.close()
    servers(1)
    told = sorted(heat.stack_events(stack_id), key=lambda event: event.event_time)
    listed = "; ".join(
        f"{e.event_time} {e.resource_name} {e.resource_status}: {e.resource_status_reason}" for e in told
    )
    events = [(event.resource_name, event.resource_status) for event in told]
    assert ("grow", "SIGNAL_COMPLETE") in events, events
    assert ("shrink", "SIGNAL_COMPLETE") in events, events
    record_property("events", listed)
    stacks.delete(heat, stack_id)
    stacks.wait_servers_gone(project)


#: The end of a query: only servers that were not deleted count.
OPEN = '{"=": {"ended_at": null}}]}'


def test_restarted_agents_lose_no_more_than_an_interval(lab, project, boot, seen, interval):
    server = boot("watched")
    measured(seen, server.id, "cpu", within(interval, 3))
    state = Lab.load(lab.lab)
    units = state.context.base.units
    for daemon, component in {
        "ceilometer-compute": "ceilometer-compute",
        "ceilometer-notification": "ceilometer",
        "ceilometer-central": "ceilometer",
        "gnocchi-metricd": "gnocchi",
    }.items():
        for node in (node.name for node in state.spec.nodes.values() if component in node.runs):
            with state.connect(node) as session:
                session.run(f"systemctl restart {' '.join(units[daemon])}", timeout=120)
    known = len(seen.measures(server.id, "cpu"))
    points = measured(seen, server.id, "cpu", within(interval, 5), points=known + 2)
    gaps = [(b.time - a.time).total_seconds() for a, b in pairwise(points)]
    assert max(gaps) <= 2 * interval, gaps
