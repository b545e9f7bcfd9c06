"""Swift: small, large and segmented objects are stored unchanged, and ACLs are enforced."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from labctl.records.lab import Lab
from labctl.testing.waits import wait_for

pytestmark = pytest.mark.needs("swift-proxy")

MIB = 1024**2
HEAL_DEADLINE = 240  # the replicator runs every 30 s by default


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def store(project):
    """The project's object store."""
    return project.connection.object_store


@pytest.fixture
def container(store, name):
    """The name of a new container; the project's clean-up deletes it."""
    made = name("container")
    store.create_container(made)
    return made


def put(store, path, data, **headers):
    """PUT an object and return the response, which must be a success."""
    answer = store.put(f"/{path}", data=data, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


def get(store, path):
    answer = store.get(f"/{path}")
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.smoke
@pytest.mark.parametrize("size", [0, 1, 12345, 64 * MIB], ids=["empty", "byte", "small", "64MiB"])
def test_object_comes_back_as_it_was_sent(store, container, size):
    data = os.urandom(size)
    sent = put(store, f"{container}/object", data)
    assert sent.headers["Etag"].strip('"') == md5(data)
    received = get(store, f"{container}/object")
    assert len(received.content) == size
    assert md5(received.content) == md5(data)


def test_object_with_a_wrong_checksum_is_refused(store, container):
    answer = store.put(f"/{container}/object", data=b"data", headers={"Etag": md5(b"other")})
    assert answer.status_code == 422
    assert list(store.objects(container)) == []


def test_segments_make_one_object_and_go_with_it(store, container):
    segments = [os.urandom(2 * MIB), os.urandom(2 * MIB), os.urandom(MIB + 3)]
    manifest = []
    for number, data in enumerate(segments):
        put(store, f"{container}/part-{number}", data)
        manifest.append({"path": f"/{container}/part-{number}", "etag": md5(data), "size_bytes": len(data)})
    put(store, f"{container}/whole?multipart-manifest=put", json.dumps(manifest))

    assert get(store, f"{container}/whole").content == b"".join(segments)
    part = store.get(f"/{container}/whole", headers={"Range": f"bytes={2 * MIB - 5}-{2 * MIB + 4}"})
    assert part.status_code == 206
    assert part.content == segments[0][-5:] + segments[1][:5]

    removed = store.delete(f"/{container}/whole?multipart-manifest=delete")
    assert removed.status_code == 200, removed.text
    assert list(store.objects(container)) == []


def test_metadata_is_kept_and_changed(store, container):
    put(store, f"{container}/object", b"x", **{"X-Object-Meta-Colour": "green", "Content-Type": "text/x-lab"})
    head = store.head(f"/{container}/object")
    assert head.headers["X-Object-Meta-Colour"] == "green"
    assert head.headers["Content-Type"].startswith("text/x-lab")
    assert store.post(f"/{container}/object", headers={"X-Object-Meta-Colour": "blue"}).status_code == 202
    assert store.head(f"/{container}/object").headers["X-Object-Meta-Colour"] == "blue"


def test_listing_shows_what_is_there_by_prefix(store, container):
    for path in ("a/1", "a/2", "b/1"):
        put(store, f"{container}/{path}", path.encode())
    assert [o.name for o in store.objects(container)] == ["a/1", "a/2", "b/1"]
    assert [o.name for o in store.objects(container, prefix="a/")] == ["a/1", "a/2"]
    assert store.delete(f"/{container}/a/1").status_code == 204
    assert [o.name for o in store.objects(container)] == ["a/2", "b/1"]


def test_container_with_objects_is_not_deleted(store, container):
    put(store, f"{container}/object", b"x")
    assert store.delete(f"/{container}").status_code == 409
    assert get(store, f"{container}/object").content == b"x"


def test_other_project_reads_only_after_the_acl_lets_it(store, container, other_project):
    put(store, f"{container}/object", b"for some")
    url = f"{store.get_endpoint()}/{container}/object"
    others = other_project.connection.session
    assert others.get(url, raise_exc=False).status_code == 403

    acl = {"X-Container-Read": f"{other_project.id}:*"}
    assert store.post(f"/{container}", headers=acl).status_code == 204
    allowed = others.get(url, raise_exc=False)
    assert (allowed.status_code, allowed.content) == (200, b"for some")
    assert others.put(url, data=b"not mine", raise_exc=False).status_code == 403


def holders(lab, marker):
    """The nodes that store an object's data."""
    command = f"grep -rlF {marker} /srv/node --include='*.data' 2>/dev/null | wc -l"
    found = set()
    for name in lab.nodes:
        with Lab.load(lab.lab).connect(name) as node:
            if int(node.run(command, timeout=60).stdout or 0):
                found.add(name)
    return found


def wait_replicas(lab, marker, number):
    return wait_for(
        f"{number} replicas",
        lambda: holders(lab, marker),
        done=lambda nodes: len(nodes) >= number,
        deadline=HEAL_DEADLINE,
        interval=5,
    )


@pytest.mark.needs("swift-three-zones")
def test_each_object_lies_on_three_nodes(lab, store, container, name):
    marker = name("replica")
    put(store, f"{container}/object", marker.encode() * 10)
    assert len(wait_replicas(lab, marker, 3)) == 3


@pytest.mark.destructive
@pytest.mark.needs("swift-three-zones")
def test_no_object_is_lost_while_a_storage_node_is_down_and_it_heals(lab, store, container, name):
    before, during = name("before"), name("during")
    put(store, f"{container}/before", before.encode())
    victim = sorted(wait_replicas(lab, before, 3))[-1]
    running = "systemctl list-units --plain --no-legend --state=running 'swift-*' 'openstack-swift-*'"
    with Lab.load(lab.lab).connect(victim) as node:
        listed = node.run(running, timeout=30).stdout.splitlines()
        units = " ".join(line.split()[0] for line in listed if line.strip())
        assert units, f"{victim} runs no Swift service"
        try:
            assert node.run(f"systemctl stop {units}", timeout=120).status == 0
            put(store, f"{container}/during", during.encode())
            for number in range(20):
                put(store, f"{container}/loop-{number}", during.encode())
                assert get(store, f"{container}/before").content == before.encode()
                assert get(store, f"{container}/loop-{number}").content == during.encode()
            assert victim not in holders(lab, during)
        finally:
            node.run(f"systemctl start {units}", timeout=120)
    assert victim in wait_replicas(lab, during, 3)
    wanted = {"before", "during", *(f"loop-{number}" for number in range(20))}
    # the returned node has a stale listing until its container database is replicated
    wait_for(
        "the container to list every object",
        lambda: {o.name for o in store.objects(container)},
        done=lambda names: names == wanted,
        deadline=HEAL_DEADLINE,
        interval=5,
    )
    for path in sorted(wanted):
        expected = before if path == "before" else during
        assert get(store, f"{container}/{path}").content == expected.encode()
