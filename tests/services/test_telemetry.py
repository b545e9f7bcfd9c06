"""Telemetry: what it takes for a measure to arrive, an alarm to fire, and a deleted server not to count."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
import yaml
from support import ROOT, planned, specify, whole

from labctl.components import Component
from labctl.operations.node import Command, File, Operation, Unit, flatten
from labctl.operations.openstack import ArchivePolicy, MeasuresArrive
from labctl.services import swift
from labctl.services.base import Context
from labctl.topology.spec import LabSpec

TOPOLOGY = ROOT / "topologies" / "zed-telemetry.yaml"
#: The services that tell of their resources, each with its file.
TELLING = ("nova/nova.conf", "neutron/neutron.conf", "glance/glance-api.conf")


@pytest.fixture(scope="module")
def zed() -> LabSpec:
    return specify(TOPOLOGY)


@pytest.fixture(scope="module")
def ussuri() -> LabSpec:
    return specify(ROOT / "topologies" / "ussuri-6node.yaml", base="debian12")


@pytest.fixture(scope="module")
def centos() -> LabSpec:
    return whole(ROOT / "topologies" / "ussuri-6node.yaml", "centos8")


def files(spec: LabSpec, node: str = "controller") -> dict[str, str]:
    return {file.path.removeprefix("/etc/"): file.content for file in planned(spec).files(node)}


def settings(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    return parser


def without(spec: LabSpec, *components: Component) -> LabSpec:
    nodes = {
        name: node.model_copy(update={"runs": tuple(c for c in node.runs if c not in components)})
        for name, node in spec.nodes.items()
    }
    return spec.model_copy(update={"nodes": nodes})


def steps(spec: LabSpec, node: str = "controller") -> list[Operation]:
    """What is done on a node, stage by stage."""
    return [o for stage in planned(spec).stages for o in flatten(stage.nodes.get(node, ()))]


TELEMETRY = (Component.CEILOMETER, Component.CEILOMETER_COMPUTE, Component.GNOCCHI, Component.AODH)


def test_every_metric_has_rates_at_the_interval_of_the_agents(zed: LabSpec) -> None:
    """The guide's archive_policy=low has no rate:mean, so no alarm on a processor could fire."""
    spec = zed.model_copy(update={"telemetry_interval": 20})
    written = files(spec)
    (policy,) = [o for stage in planned(spec).stages for o in stage.api if isinstance(o, ArchivePolicy)]
    assert "rate:mean" in policy.methods
    assert policy.granularity == 20
    (sink,) = yaml.safe_load(written["ceilometer/pipeline.yaml"])["sinks"]
    assert sink["publishers"] == [f"gnocchi://?archive_policy={policy.name}"]
    for node in ("controller", "compute"):
        sources = yaml.safe_load(files(spec, node)["ceilometer/polling.yaml"])["sources"]
        assert [source["interval"] for source in sources] == [20]
    conf = settings(written["aodh/aodh.conf"])
    assert conf.getint("evaluator", "evaluation_interval") <= 20
    assert conf.getint("DEFAULT", "additional_ingestion_lag") >= 20
    assert settings(written["gnocchi/gnocchi.conf"]).getint("metricd", "metric_processing_delay") < 20


def test_deleted_resources_end_as_events_go_to_gnocchi(zed: LabSpec) -> None:
    """Ussuri's events go to panko, Zed's to a queue that nobody reads: deleted servers would count for ever."""
    (sink,) = yaml.safe_load(files(zed)["ceilometer/event_pipeline.yaml"])["sinks"]
    assert sink["publishers"] == ["gnocchi://", "notifier://?topic=alarm.all"]
    (sink,) = yaml.safe_load(files(without(zed, Component.AODH))["ceilometer/event_pipeline.yaml"])["sinks"]
    assert sink["publishers"] == ["gnocchi://"]  # nobody would read the queue of alarms


def test_agents_measure_what_their_node_has(zed: LabSpec) -> None:
    polled = {
        node: [m for s in yaml.safe_load(files(zed, node)["ceilometer/polling.yaml"])["sources"] for m in s["meters"]]
        for node in ("controller", "compute")
    }
    assert {"image.size", "volume.size", "ip.floating", "storage.objects"} <= set(polled["controller"])
    assert {"cpu", "memory.usage"} <= set(polled["compute"])
    assert not set(polled["compute"]) & set(polled["controller"])
    bare = without(
        *(zed, Component.SWIFT_PROXY, Component.SWIFT_STORAGE),
        *(Component.CINDER_CONTROLLER, Component.CINDER_VOLUME),
    )
    text = files(bare)["ceilometer/polling.yaml"]
    assert "storage.objects" not in text
    assert "volume.size" not in text


@pytest.mark.parametrize("path", TELLING)
def test_services_tell_of_their_resources_only_where_somebody_reads_it(zed: LabSpec, path: str) -> None:
    """Without an agent the queues grow without end."""
    section = "oslo_messaging_notifications"
    conf = settings(files(zed)[path])
    assert conf.get(section, "driver") == "messagingv2"
    assert conf.get("DEFAULT", "transport_url").startswith("rabbit://")
    silent = settings(files(without(zed, *TELEMETRY))[path])
    assert not silent.has_section(section)
    assert silent.has_option("DEFAULT", "transport_url") == (path != "glance/glance-api.conf")


def test_services_tell_only_where_they_survive_that(zed: LabSpec, ussuri: LabSpec) -> None:
    """Debian 12's oslo.messaging leaves credentials out of contexts: no volume is made, and no scaling group grows."""
    section = "oslo_messaging_notifications"
    assert not settings(files(zed)["heat/heat.conf"]).has_section(section)
    assert not settings(files(zed)["cinder/cinder.conf"]).has_section(section)
    assert settings(files(ussuri, "network")["heat/heat.conf"]).has_section(section)
    assert settings(files(ussuri)["cinder/cinder.conf"]).has_section(section)


def test_swift_s_filter_is_there_only_with_telemetry_and_waits_for_nobody(zed: LabSpec) -> None:
    conf = settings(files(zed)["swift/proxy-server.conf"])
    assert conf.get("pipeline:main", "pipeline").split()[-2:] == ["ceilometer", "proxy-server"]
    meter = conf["filter:ceilometer"]
    # it reads no file of oslo.config's, and queues that others declared durable refuse it
    assert meter["url"].endswith("/?amqp_durable_queues=true")
    assert meter["nonblocking_notify"] == "true"
    silent = Context.of(without(zed, *TELEMETRY))
    assert "ceilometer" not in swift.pipeline(silent)
    (storage,) = silent.lab.running(Component.SWIFT_PROXY)
    assert not [name for name in swift.Swift().packages(silent, storage) if "ceilometer" in name]


def test_gnocchi_knows_its_types_and_policies_before_agents_start(zed: LabSpec) -> None:
    stages = {stage.name: stage for stage in planned(zed).stages}
    assert any(isinstance(o, ArchivePolicy) for o in stages["services"].api)
    begun = flatten(stages["compute"].nodes["controller"])
    types = next(n for n, o in enumerate(begun) if isinstance(o, Command) and "ceilometer-upgrade" in o.run)
    agents = [n for n, o in enumerate(begun) if isinstance(o, Unit) and "ceilometer" in o.name]
    assert len(agents) == 2
    assert types < min(agents)
    assert "--retry" in next(o.run for o in begun if isinstance(o, Command) and "ceilometer-upgrade" in o.run)
    assert any(isinstance(o, MeasuresArrive) for o in stages["verify"].api)


def test_redis_is_asked_only_where_a_topology_places_it(zed: LabSpec) -> None:
    assert not settings(files(zed)["gnocchi/gnocchi.conf"]).has_section("incoming")
    controller = zed.nodes["controller"]
    placed = controller.model_copy(update={"runs": (*controller.runs, Component.REDIS)})
    spec = zed.model_copy(update={"nodes": {**zed.nodes, "controller": placed}})
    incoming = settings(files(spec)["gnocchi/gnocchi.conf"])["incoming"]
    assert incoming["driver"] == "redis"
    assert incoming["redis_url"].endswith("@controller:6379/")
    text = files(spec)["redis/redis.conf"]
    assert "bind 127.0.0.1 10.0.0.11\n" in text
    assert "requirepass " in text
    (unit,) = Context.of(spec).base.units["redis"]
    assert unit in [o.name for o in steps(spec) if isinstance(o, Unit)]


@pytest.mark.parametrize(
    ("topology", "base", "section"),
    [("ussuri-6node", "debian12", "DEFAULT"), ("zed-telemetry", "debian12", "evaluator")],
)
def test_the_evaluator_s_interval_is_in_the_section_of_the_release(topology: str, base: str, section: str) -> None:
    conf = settings(files(whole(ROOT / "topologies" / f"{topology}.yaml", base))["aodh/aodh.conf"])
    assert conf.get(section, "evaluation_interval") == "15"


def test_rdo_s_apis_run_in_apache_on_their_own_ports(centos: LabSpec) -> None:
    """RDO's unit of aodh's API listens on 8000, which is heat's; gnocchi's needs an uWSGI that no repository has."""
    written = files(centos)
    for service, port in (("gnocchi", 8041), ("aodh", 8042)):
        site = written[f"httpd/conf.d/10-labctl-{service}.conf"]
        assert f"Listen {port}\n" in site
        (script,) = [line.split()[2] for line in site.splitlines() if "WSGIScriptAlias" in line]
        (file,) = [f for f in planned(centos).files("controller") if f.path == script]
        compile(file.content, script, "exec")
    units = {o.name for o in steps(centos) if isinstance(o, Unit)}
    assert "gnocchi-metricd" in units
    assert not units & {"openstack-aodh-api", "gnocchi-api"}
    labelled = [o.title for o in steps(centos) if "SELinux lets" in o.title]
    assert {title.rsplit(" ", 1)[1] for title in labelled} >= {"8041", "8042"}


def test_telemetry_runs_where_the_notes_place_it(ussuri: LabSpec) -> None:
    """003, lines 2952 to 2957: agents on the central server, one on each compute node."""
    assert {Component.GNOCCHI, Component.CEILOMETER, Component.AODH} <= set(ussuri.nodes["controller"].runs)
    for node in ussuri.running(Component.NOVA_COMPUTE):
        assert node.has(Component.CEILOMETER_COMPUTE)


def test_accounts_of_all_projects_are_read_by_their_role(zed: LabSpec) -> None:
    (catalog,) = [stage for stage in planned(zed).stages if stage.name == "catalog"]
    titles = [operation.title for operation in catalog.api]
    assert titles.index("role ResellerAdmin") < titles.index("role ResellerAdmin for ceilometer on service")
    bare = without(zed, Component.SWIFT_PROXY, Component.SWIFT_STORAGE)
    (catalog,) = [stage for stage in planned(bare).stages if stage.name == "catalog"]
    assert not any("ResellerAdmin" in operation.title for operation in catalog.api)


def test_files_of_telemetry_are_read_by_their_projects_only(zed: LabSpec) -> None:
    for node in ("controller", "compute"):
        for file in planned(zed).files(node):
            project = Path(file.path).parts[2]
            if project in ("gnocchi", "ceilometer", "aodh") and isinstance(file, File):
                assert (file.group, file.mode) == (project, "0640")
