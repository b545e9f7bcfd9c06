"""Glance: uploaded data is stored unchanged, and visibility is enforced."""

from __future__ import annotations

import hashlib
import os

import pytest
from openstack.exceptions import ForbiddenException, NotFoundException

from labctl.testing.waits import wait_for

DATA = os.urandom(3 * 1024 * 1024 + 17)


def upload(project, name, **attrs):
    """Upload DATA as a raw image and wait until it is active."""
    glance = project.connection.image
    image = glance.create_image(
        name,
        data=DATA,
        disk_format="raw",
        container_format="bare",
        allow_duplicates=True,
        validate_checksum=False,
        **attrs,
    )
    return wait_for(
        f"image {name} to be active",
        lambda: glance.get_image(image.id),
        done=lambda seen: seen.status == "active",
        failed=lambda seen: seen.status if seen.status in ("killed", "deleted", "deactivated") else None,
        deadline=60,
        show=lambda seen: seen.status,
    )


def test_uploaded_image_has_the_size_and_checksums_of_its_data(project, name):
    image = upload(project, name("image"), visibility="private")
    assert image.size == len(DATA)
    assert image.checksum == hashlib.md5(DATA).hexdigest()
    if image.hash_algo:  # from Rocky on
        assert image.hash_value == hashlib.new(image.hash_algo, DATA).hexdigest()


@pytest.mark.smoke
def test_download_equals_the_upload(project, name):
    image = upload(project, name("image"), visibility="private")
    assert project.connection.image.download_image(image.id).content == DATA


def test_private_image_is_invisible_to_another_project_until_shared(project, other_project, name):
    image = upload(project, name("image"))
    glance = other_project.connection.image
    assert image.id in {seen.id for seen in project.connection.image.images()}
    assert image.id not in {seen.id for seen in glance.images()}
    with pytest.raises(NotFoundException):
        glance.get_image(image.id)

    project.connection.image.add_member(image.id, member_id=other_project.id)
    assert glance.get_image(image.id).id == image.id
    assert glance.download_image(image.id).content == DATA


def test_ordinary_user_may_not_publish_an_image(project, name):
    image = upload(project, name("image"), visibility="private")
    with pytest.raises(ForbiddenException):
        project.connection.image.update_image(image.id, visibility="public")
    assert project.connection.image.get_image(image.id).visibility == "private"


def test_deleted_image_is_gone(project, name):
    image = upload(project, name("image"), visibility="private")
    project.connection.image.delete_image(image.id, ignore_missing=False)
    with pytest.raises(NotFoundException):
        project.connection.image.get_image(image.id)


@pytest.mark.smoke
def test_image_of_the_lab_is_public_and_active(lab, project):
    image = project.connection.image.find_image(lab.image)
    assert image is not None
    assert (image.status, image.visibility) == ("active", "public")
