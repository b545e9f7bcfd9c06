"""Keystone: tokens, refused requests, and a catalog whose endpoints answer."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests
from keystoneauth1.exceptions import Unauthorized
from openstack.exceptions import ForbiddenException

from labctl.records import cloud
from labctl.testing.waits import patient

INTERFACES = {"public", "internal", "admin"}
#: Component to service types; the catalog must have one of them.
SERVICES = {
    "keystone": ("identity",),
    "glance": ("image",),
    "placement": ("placement",),
    "nova-controller": ("compute",),
    "neutron-server": ("network",),
    "cinder-controller": ("volumev3", "block-storage"),
    "swift-proxy": ("object-store",),
    "heat": ("orchestration",),
}
#: Path that a service answers without a token, if not its root.
VERSION_ROOT = {"object-store": "/info"}


def token_of(session, token):
    """Keystone's validation of a token, authenticated with the same token."""
    return session.get(
        "/auth/tokens",
        endpoint_override=session.auth.auth_url,
        headers={"X-Auth-Token": token, "X-Subject-Token": token},
        authenticated=False,
        raise_exc=False,
    )


@pytest.mark.smoke
def test_token_names_its_user_and_project(lab, project):
    session = cloud.session(lab, project.user, project.password, project.name)
    answer = cloud.body(token_of(session, session.get_token()))["token"]
    assert answer["user"]["id"] == project.user_id
    assert answer["project"]["id"] == project.id
    assert not {"admin"} & {role["name"] for role in answer["roles"]}


def test_revoked_token_is_refused(lab, project):
    session = cloud.session(lab, project.user, project.password, project.name)
    token = session.get_token()
    assert token_of(session, token).status_code == 200
    revoked = session.delete(
        "/auth/tokens",
        endpoint_override=lab.auth_url,
        headers={"X-Auth-Token": token, "X-Subject-Token": token},
        authenticated=False,
        raise_exc=False,
    )
    assert revoked.status_code == 204
    assert token_of(session, token).status_code in (401, 404)


def test_wrong_password_is_refused(lab, project):
    with pytest.raises(Unauthorized):
        cloud.session(lab, project.user, project.password + "x", project.name).get_token()


def test_user_gets_no_token_for_a_project_of_others(lab, project, other_project):
    with pytest.raises(Unauthorized):
        cloud.session(lab, project.user, project.password, other_project.name).get_token()


def test_ordinary_user_may_not_list_users(admin, project):
    assert project.user_id in {user.id for user in admin.identity.users()}
    with pytest.raises(ForbiddenException):
        list(project.connection.identity.users())


def test_ordinary_user_may_not_make_projects(project, name):
    with pytest.raises(ForbiddenException):
        project.connection.identity.create_project(name=name("forbidden"), domain_id="default")


@pytest.mark.smoke
def test_demo_user_of_the_lab_gets_a_token_for_its_project(lab, demo):
    access = cloud.access_info(demo.session)
    assert access.username == lab.demo_user
    assert access.project_name == lab.demo_project


def test_catalog_has_each_service_with_three_interfaces_in_one_region(lab, project):
    catalog = {service["type"]: service["endpoints"] for service in cloud.catalog(project.connection)}
    expected = {types for component, types in SERVICES.items() if component in lab.components}
    missing = [types[0] for types in expected if not set(types) & set(catalog)]
    assert not missing, f"in the catalog: {sorted(catalog)}"
    for kind, endpoints in catalog.items():
        assert {e["region"] for e in endpoints} == {lab.region}, kind
        assert sorted(e["interface"] for e in endpoints) == sorted(INTERFACES), kind


@pytest.mark.smoke
def test_each_endpoint_of_the_catalog_answers_at_its_version_root(project):
    refused = []
    for service in cloud.catalog(project.connection):
        for endpoint in service["endpoints"]:
            url = urlsplit(endpoint["url"])
            root = f"{url.scheme}://{url.netloc}{VERSION_ROOT.get(service['type'], '/')}"
            answer = requests.get(root, timeout=patient(30), allow_redirects=False)
            if answer.status_code not in (200, 300):
                refused.append(f"{service['type']} {endpoint['interface']} {root}: {answer.status_code}")
    assert not refused
