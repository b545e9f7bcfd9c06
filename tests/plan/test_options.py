"""Every option in every rendered file is one that the release really has.

The catalogs in tests/data/options were read off each release's own packages (oslo.config's option lists).
"""

from __future__ import annotations

import json
from pathlib import Path

import check_options
import pytest
from support import ROOT, TOPOLOGIES, planned, specify, variants, whole

from labctl.components import Component as C
from labctl.releases import EVERY, RELEASES
from labctl.releases.model import PackageSource
from labctl.services.base import Context
from labctl.services.cinder import has_snapshots
from labctl.topology import mechanism
from labctl.topology.load import load
from labctl.topology.model import VirtType, VolumeBackend
from labctl.topology.spec import LabSpec
from labctl.upgrade import chain
from labctl.upgrade.chain import Hop

PROJECTS = (
    *("keystone", "glance", "placement", "nova", "neutron", "cinder", "heat"),
    *("gnocchi", "ceilometer", "aodh"),
)
#: Files read in the place of, or after, another one: their options are the other one's.
SAME_AS = {"nova-compute.conf": "nova.conf", "nova-cpu.conf": "nova.conf"}
#: Sections for which oslo.privsep registers the options of [privsep] once a helper's context is made, so that no
#: catalog has them: cfg_section in Zed's nova/privsep, neutron/privileged, cinder/privsep, os_brick and vif_plug_*.
HELPERS = {
    "nova.conf": (
        *("nova_sys_admin", "privsep_osbrick"),
        *("vif_plug_linux_bridge_privileged", "vif_plug_ovs_privileged"),
    ),
    "neutron.conf": (
        *("privsep_dhcp_release", "privsep_ovs_vsctl", "privsep_namespace"),
        *("privsep_conntrack", "privsep_link"),
    ),
    "cinder.conf": ("cinder_sys_admin", "privsep_osbrick"),
}
#: Sections that a daemon registers besides those its own list names: neutron/agent/ovn/metadata/agent.py reads OVN's.
ALSO = {"neutron_ovn_metadata_agent.ini": ("ml2_conf.ini", "ovn")}
#: Options that the release would rather do without, and why they are written all the same.
FOR_REMOVAL = {
    ("heat.conf", "ec2authtoken", "auth_uri"): "the guide has it; what replaces it is of 2026.1",
    ("nova.conf", "api", "auth_strategy"): "the guide has it, and there is no other value",
    ("nova.conf", "glance", "api_servers"): "the guide has it; the catalog would do as well",
    ("glance-api.conf", "glance_store", "default_store"): "the guide has it, and its one store needs no name",
    ("glance-api.conf", "glance_store", "stores"): "the guide has it, and its one store needs no name",
}
#: Files below a project's directory that oslo.config does not read.
OTHER_KINDS = ("api-paste.ini", ".yaml", "-uwsgi.ini", "policy.json", "policy.yaml", "rootwrap.conf", "/nfs_shares")


def catalog(release: str) -> dict[str, dict[str, check_options.Names]]:
    path = check_options.CATALOGS / f"{release}.json"
    if not path.exists():
        pytest.fail(
            f"the release {release} has a recipe, but no option catalog: {path} is missing; nothing proves its options"
        )
    found: dict[str, dict[str, check_options.Names]] = json.loads(path.read_text())
    return found


def measured(spec: LabSpec) -> LabSpec:
    """The lab with telemetry, if labctl has that of its release."""
    if spec.has(C.GNOCCHI) or not RELEASES[spec.release].has("gnocchi", PackageSource(spec.package_source)):
        return spec
    more = {
        spec.host_of(C.KEYSTONE).name: (C.GNOCCHI, C.CEILOMETER, C.AODH, C.REDIS),
        **{node.name: (C.CEILOMETER_COMPUTE,) for node in spec.running(C.NOVA_COMPUTE)},
    }
    nodes = {
        name: node.model_copy(update={"runs": (*node.runs, *more.get(name, ()))}) for name, node in spec.nodes.items()
    }
    return spec.model_copy(update={"nodes": nodes})


def specs(topology: Path, base: str) -> list[LabSpec]:
    """A lab in each of the shapes that change its files."""
    spec = measured(whole(topology, base))
    mechanisms = mechanism.possible(RELEASES[spec.release], base)
    return [
        spec.model_copy(
            update={"mechanism": each, "virt_type": virt_type, "volume_backend": backend, "patience": patience}
        )
        for each in mechanisms
        for virt_type, backend, patience in (
            (VirtType.QEMU, VolumeBackend.NFS, 1.0),
            (VirtType.KVM, VolumeBackend.LVM, 12.0),
        )
    ]


def findings(spec: LabSpec, directory: Path) -> tuple[set[str], list[str], list[str]]:
    """(checked files, errors, deprecated spellings) of all nodes' files."""
    known = catalog(spec.release)
    checked: set[str] = set()
    errors: list[str] = []
    old: list[str] = []
    for node in spec.nodes:
        for file in planned(spec).files(node):
            name = file.path.rpartition("/")[2]
            parts = file.path.split("/")
            if parts[1] != "etc" or parts[2] not in PROJECTS or file.path.endswith(OTHER_KINDS):
                continue
            kind = SAME_AS.get(name, name)
            if kind not in known["files"]:
                errors.append(f"{file.path}: the catalog of {spec.release} does not know files of this name")
                continue
            path = directory / node / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(file.content)
            names = check_options.as_sets(known["files"][kind])
            if EVERY[spec.release].green_log_locks and kind in HELPERS:
                names |= dict.fromkeys(HELPERS[kind], names["privsep"])
            if kind in ALSO:
                file_, section = ALSO[kind]
                names[section] = check_options.as_sets(known["files"][file_])[section]
            deprecated = check_options.as_sets(known["deprecated"].get(kind, {}))
            for is_error, message in check_options.check(path, names, deprecated):
                (errors if is_error else old).append(message)
            checked.add(name)
    return checked, errors, old


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_has_a_catalog_and_a_topology(release: str) -> None:
    assert catalog(release)["files"]
    assert [p.stem for p in TOPOLOGIES if load(p).release == release], f"no topology uses {release}"


@pytest.mark.parametrize(("topology", "base"), variants(), ids=lambda v: getattr(v, "stem", v))
def test_no_rendered_file_has_an_option_the_release_does_not_know(topology: Path, base: str, tmp_path: Path) -> None:
    for number, spec in enumerate(specs(topology, base)):
        place = tmp_path / str(number)
        place.mkdir()
        checked, errors, old = findings(spec, place)
        assert {"keystone.conf", "glance-api.conf", "nova.conf", "neutron.conf", "ml2_conf.ini"} <= checked
        assert not errors, "\n".join(errors)
        assert not old, "\n".join(old)


HOPS = chain.plan(specify(ROOT / "topologies" / "rocky-2node.yaml"), "gazpacho", kernel=False)


@pytest.mark.parametrize("hop", HOPS, ids=[hop.name for hop in HOPS])
def test_nor_has_a_file_of_a_release_that_an_upgrade_passes(hop: Hop, tmp_path: Path) -> None:
    checked, errors, old = findings(hop.after, tmp_path)
    assert {"keystone.conf", "glance-api.conf", "nova.conf", "neutron.conf", "ml2_conf.ini", "heat.conf"} <= checked
    assert not errors, "\n".join(errors)
    assert not old, "\n".join(old)


@pytest.mark.parametrize("topology", [path for path in TOPOLOGIES if "for_removal" in catalog(load(path).release)])
def test_what_a_release_will_remove_is_written_for_a_reason(topology: Path, tmp_path: Path) -> None:
    spec = whole(topology, load(topology).bases[0])
    path = tmp_path / "rendered"
    doomed = catalog(spec.release)["for_removal"]
    rendered: set[tuple[str, str, str]] = set()
    for node in spec.nodes:
        for file in planned(spec).files(node):
            kind = file.path.rpartition("/")[2]
            if kind in doomed:
                path.write_text(file.content)
                options = [(section, option) for _, section, option, _ in check_options.settings(path)]
                rendered |= {(kind, s, o) for s, o in options if o in doomed[kind].get(s, ())}
    assert rendered <= FOR_REMOVAL.keys()


def test_volumes_of_mitaka_on_nfs_have_no_snapshots_and_no_option_for_them(tmp_path: Path) -> None:
    """The driver has them from cinder 10.0.0 (Ocata) on: facts of Mitaka's real code."""
    for topology, base in (("mitaka-3node", "centos7"), ("train-2node", "debian12")):
        spec = whole(ROOT / "topologies" / f"{topology}.yaml", base)
        spec = spec.model_copy(update={"volume_backend": VolumeBackend.NFS})
        node = spec.running(C.CINDER_VOLUME)[0].name
        (file,) = (file for file in planned(spec).files(node) if file.path == "/etc/cinder/cinder.conf")
        snapshots = has_snapshots(Context.of(spec))
        assert (spec.release, snapshots) in (("mitaka", False), ("train", True))
        assert ("nfs_snapshot_support" in file.content) is snapshots


def test_an_unknown_option_is_found(tmp_path: Path) -> None:
    """The check itself: a wrong option, a wrong section, and a remark that would become part of a value."""
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\nmy_ipp = 10.0.0.1\n[vncc]\nenabled = true\n[vnc]\nenabled = true\n")
    known = catalog("zed")
    found = list(
        check_options.check(
            path,
            check_options.as_sets(known["files"]["nova.conf"]),
            check_options.as_sets(known["deprecated"]["nova.conf"]),
        )
    )
    assert [is_error for is_error, _ in found] == [True, True]
    assert "did you mean my_ip?" in found[0][1]
    assert "[vncc]: unknown section" in found[1][1]
