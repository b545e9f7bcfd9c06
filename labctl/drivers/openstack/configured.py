"""The clouds of clouds.yaml, as openstacksdk reads it."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labctl.errors import LabError

#: openstacksdk's variable for a file of another name.
OTHER_FILE = "OS_CLIENT_CONFIG_FILE"


def names() -> list[str]:
    """The clouds that are configured.

    :raises LabError: a file is damaged.
    """
    return _names(_config())


def file() -> str:
    """The file that was read; empty where there is none, as with clouds of ``OS_*`` variables."""
    return str(_config().config_filename or "")


def entry(name: str) -> Any:
    """What is configured for a cloud.

    :raises LabError: there is no such cloud, says where it was looked for; or the file is damaged.
    """
    from openstack.exceptions import ConfigException

    config = _config()
    known = _names(config)
    if name not in known:
        where = config.config_filename or "the environment"
        there = f" in {where}; clouds there: {', '.join(known)}" if known else f": {_nowhere(config)}"
        if not known:
            hint = f"write the project's clouds.yaml, which its dashboard offers; labctl doctor --cloud {name}"
        else:
            near = [*get_close_matches(name, known, 1), *known][0]
            hint = f"labctl doctor --cloud {near}"
        raise LabError(f"there is no cloud named '{name}'{there}", hint)
    try:
        return config.get_one(cloud=name)
    except ConfigException as error:
        raise LabError(f"the cloud {name} of {config.config_filename}: {error}") from error


def _config() -> Any:
    from openstack.config import OpenStackConfig
    from openstack.exceptions import ConfigException

    try:
        return OpenStackConfig()
    except (ConfigException, OSError) as error:
        raise LabError(f"clouds.yaml: {error}") from error


def _names(config: Any) -> list[str]:
    """Without the empty one that openstacksdk makes where nothing is configured."""
    return sorted(name for name in config.cloud_config["clouds"] if name != "defaults")


def _nowhere(config: Any) -> str:
    if config.config_filename:
        return f"{config.config_filename} has no clouds"
    from openstack.config import loader

    named = os.environ.get(OTHER_FILE)
    if broken := next((path for path in (named, *loader.CONFIG_FILES) if path and Path(path).is_file()), None):
        return f"{broken} is not YAML"
    places = list(dict.fromkeys(loader.CONFIG_SEARCH_PATH))
    if named:
        places.insert(0, f"{named} ({OTHER_FILE})")
    return f"no clouds.yaml was found; looked in {', '.join(places)}"
