"""Exported labs in the lab's own object store: by Swift, and by its S3 interface."""

import hashlib
import random
from urllib.parse import urlsplit

import pytest

from labctl import releases
from labctl.artefacts import fetch, place, send
from labctl.host import archive, paths

pytest.importorskip("fsspec", reason="labctl's extra 'remote' is not installed")

pytestmark = pytest.mark.needs("swift-proxy")

MIB = 2**20
HEADER = {"name": "ready"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A labctl home of the test's own: what was brought is not this machine's."""
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))


@pytest.fixture
def container(project, name):
    made = name("artefacts")
    project.connection.object_store.create_container(made)
    return made


@pytest.fixture
def by_swift(project, container, monkeypatch):
    """A URL in the project's account, with its user in the environment."""
    for variable, value in {
        "OS_AUTH_URL": project.lab.auth_url,
        "OS_USERNAME": project.user,
        "OS_PASSWORD": project.password,
        "OS_PROJECT_NAME": project.name,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": project.lab.region,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_CLIENT_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("OS_CLOUD", raising=False)
    return f"swift://{container}/labs/lab.tar.zst"


@pytest.fixture
def by_s3(project, container, monkeypatch):
    """The same place for S3, with EC2 credentials of the project's user in the environment."""
    if not releases.get(project.lab.release).swift_s3:
        pytest.skip(f"Swift has no S3 interface in {project.lab.release}")
    connection = project.connection
    asked = connection.identity.post(
        f"/users/{project.user_id}/credentials/OS-EC2", json={"tenant_id": project.id}
    ).json()["credential"]
    server = urlsplit(connection.object_store.get_endpoint())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", asked["access"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", asked["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{server.scheme}://{server.netloc}")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, "/dev/null")
    return f"s3://{container}/labs/lab.tar.zst"


@pytest.fixture
def packed(tmp_path):
    """Archives that no compression makes smaller, by size in MiB; more than one segment of a large object."""

    def make(size, seed=1):
        directory = tmp_path / f"content-{seed}"
        directory.mkdir()
        (directory / "random").write_bytes(random.Random(seed).randbytes(size * MIB))
        path = tmp_path / f"lab-{seed}.tar.zst"
        archive.write(path, HEADER, [(tmp_path, directory.name)], lambda _: None, 60)
        return path

    return make


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def brought(url):
    """The checksum of what comes from a URL, of which nothing stays here."""
    with fetch.arriving(url) as arrival:
        assert archive.read_header(arrival.head()) == HEADER
        found = digest(arrival.whole())
    assert list(paths.archives().iterdir()) == []
    return found


def interrupted(url, most):
    """Break off a download after so many bytes."""
    with pytest.raises(KeyboardInterrupt), fetch.arriving(url) as arrival:  # noqa: PT012
        arrival.head()
        source = arrival._source
        blocks = source.blocks
        source.blocks = lambda start, stat: ended(blocks(start, stat), most)
        arrival.whole()
    (part,) = paths.archives().glob("*.part")
    return part.stat().st_size


def ended(blocks, most):
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        if done > most:
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["by_swift", "by_s3"])
def test_an_archive_goes_to_the_object_store_and_comes_back(how, packed, request):
    url, path = request.getfixturevalue(how), packed(100)
    send.send(path, url)
    have = interrupted(url, 20 * MIB)
    assert 20 * MIB < have < 100 * MIB
    assert brought(url) == digest(path)


def test_what_was_sent_by_swift_is_there_by_s3(by_swift, by_s3, packed):
    path = packed(100)
    send.send(path, by_swift)
    assert brought(by_s3) == digest(path)


def test_an_upload_that_was_cut_off_goes_on(by_swift, packed, project, container):
    path, sent = packed(150), []

    def stop(count):
        sent.append(count)
        if len(sent) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.at(by_swift).put(path, stop)
    names = [each.name for each in project.connection.object_store.objects(container)]
    assert names == [], "an object is there when it is whole"
    assert place.at(by_swift).put(path, lambda _: None) == sum(sent)
    assert brought(by_swift) == digest(path)


def test_segments_of_what_was_there_before_are_removed(by_swift, packed, project, container):
    store = project.connection.object_store
    send.send(packed(70, seed=1), by_swift)
    before = {each.name for each in store.objects(f"{container}_segments")}
    second = packed(70, seed=2)
    send.send(second, by_swift)
    after = {each.name for each in store.objects(f"{container}_segments")}
    assert (len(before), len(after)) == (2, 2)
    assert not before & after
    assert brought(by_swift) == digest(second)
    asked = project.connection.object_store.head(f"/{container}/labs/lab.tar.zst")
    assert asked.headers["X-Static-Large-Object"] == "True"


def test_a_file_that_is_not_there_and_a_user_who_may_not(by_swift, by_s3, container, monkeypatch):
    for url in (by_swift, by_s3):
        with pytest.raises(fetch.failure.AbsentError, match="there is no"):
            brought(url)
    monkeypatch.setenv("OS_PASSWORD", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for url in (by_swift, by_s3):
        with pytest.raises(fetch.failure.DeniedError, match="access is denied") as denied:
            brought(url)
        assert "wrong" not in denied.value.message
        assert "OS_CLOUD" in denied.value.hint or "AWS_ACCESS_KEY_ID" in denied.value.hint
