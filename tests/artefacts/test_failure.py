"""What the libraries' errors are told as: never in their own words, which may quote a URL with a password."""

from __future__ import annotations

import errno

import aiohttp
import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from keystoneauth1 import exceptions as keystone
from openstack import exceptions as sdk
from s3fs.errors import translate_boto_error
from s3fs.utils import FileExpired

from labctl.artefacts import failure

SECRET = "https://me:geheim@example.org/lab"


def s3(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NoCredentialsError(), failure.DeniedError, "there are no credentials for it"),
        (keystone.MissingRequiredOptions([]), failure.DeniedError, "there are no credentials for it"),
        (keystone.Unauthorized(SECRET), failure.DeniedError, "access is denied (401)"),
        (keystone.ConnectFailure(SECRET), failure.BrokenOffError, "the connection failed (ConnectFailure)"),
        (sdk.HttpException(SECRET, http_status=404), failure.AbsentError, "there is no URL"),
        (sdk.HttpException(SECRET, http_status=507), failure.RemoteError, "507 Insufficient Storage"),
        (sdk.HttpException(SECRET, http_status=412), failure.ChangedError, "was changed"),
        (translate_boto_error(s3(403, "AccessDenied")), failure.DeniedError, "access is denied"),
        (translate_boto_error(s3(404, "NoSuchBucket")), failure.AbsentError, "there is no URL"),
        (translate_boto_error(s3(503, "SlowDown")), failure.BrokenOffError, "503 Service Unavailable"),
        (FileExpired("lab", "1"), failure.ChangedError, "was changed"),
        (EndpointConnectionError(endpoint_url=SECRET), failure.BrokenOffError, "the connection failed"),
        (requests.ConnectionError(SECRET), failure.BrokenOffError, "the connection failed (ConnectionError)"),
        (aiohttp.ClientPayloadError(SECRET), failure.BrokenOffError, "the connection failed"),
        (TimeoutError(), failure.BrokenOffError, "no answer in time"),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), failure.BrokenOffError, "Connection reset by peer"),
    ],
)
def test_an_error_is_told_without_its_text(error: Exception, kind: type[failure.RemoteError], said: str) -> None:
    told = failure.told(error, "URL", "where credentials come from")
    assert type(told) is kind
    assert said in told.message
    assert "geheim" not in told.message + told.hint


def test_a_bug_is_not_an_error_of_the_other_side() -> None:
    assert failure.told(KeyError("size"), "URL") is None
