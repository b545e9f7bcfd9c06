"""What the errors of the libraries mean: said in labctl's words, without what a URL of theirs may hold."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from labctl.errors import LabError

#: Packages whose errors are those of connections and servers.
_THEIRS = {"aiohttp", "aiobotocore", "botocore", "fsspec", "keystoneauth1", "openstack", "requests", "s3fs", "urllib3"}
#: Those that say that no credentials were found.
_NO_CREDENTIALS = {
    "ConfigException",
    "MissingAuthPlugin",
    "MissingRequiredOptions",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
}
#: Statuses worth another attempt (RFC 9110, RFC 6585).
_FOR_NOW = (408, 429, 500, 502, 503, 504)


class RemoteError(LabError):
    """The other side cannot be reached, or refuses."""


class BrokenOffError(RemoteError):
    """A connection ended early, or the server is unavailable for now."""


class ChangedError(RemoteError):
    """It is not the file any more that was begun."""


class AbsentError(RemoteError):
    """There is no such file."""


class DeniedError(RemoteError):
    """Access is denied."""


def told(error: Exception, shown: str, hint: str = "") -> RemoteError | None:
    """An error of a library's as labctl's own; None if it is none of a connection or a server.

    :param shown: the URL, as it may be printed.
    :param hint: where credentials come from.
    """
    chain = list(_chain(error))
    status = next((found for each in chain if (found := _status(each))), 0)
    if status == HTTPStatus.PRECONDITION_FAILED or any(type(each).__name__ == "FileExpired" for each in chain):
        return ChangedError(f"{shown} was changed while it was downloaded", "the same command again")
    if status in _FOR_NOW:
        return BrokenOffError(f"{shown}: the server answers {_phrase(status)}", "the same command again, later")
    if any(type(each).__name__ in _NO_CREDENTIALS for each in chain):
        return DeniedError(f"{shown}: there are no credentials for it", hint)
    if status in (401, 403) or (not status and any(isinstance(each, PermissionError) for each in chain)):
        return DeniedError(f"{shown}: access is denied{f' ({status})' if status else ''}", hint)
    if status == HTTPStatus.NOT_FOUND or (not status and len(chain) == 1 and isinstance(error, FileNotFoundError)):
        return AbsentError(f"there is no {shown}")
    if status:
        return RemoteError(f"{shown}: the server answers {_phrase(status)}")
    if any(isinstance(each, OSError) or type(each).__module__.partition(".")[0] in _THEIRS for each in chain):
        return BrokenOffError(f"{shown}: {_why(chain)}", "the same command again, which goes on from here")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _status(error: BaseException) -> int:
    """The HTTP status of an answer that became an error: aiohttp's, keystoneauth's and openstacksdk's, botocore's."""
    answer = getattr(error, "response", None)
    theirs = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
    for value in (*(getattr(error, name, None) for name in ("status", "status_code", "http_status")), theirs):
        if isinstance(value, int) and value >= HTTPStatus.BAD_REQUEST:
            return value
    return 0


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _why(chain: list[BaseException]) -> str:
    """The innermost reason that has a name of its own; texts of libraries may quote the URL."""
    if any(isinstance(each, TimeoutError) for each in chain):
        return "no answer in time"
    system = next((each.strerror for each in reversed(chain) if isinstance(each, OSError) and each.strerror), "")
    name = type(chain[-1]).__name__
    return f"the connection failed ({name}{f': {system}' if system and '://' not in system else ''})"
