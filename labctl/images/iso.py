"""ISO images: writes small ones for installers and machines, and reads files from installers' ISOs."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from labctl.errors import LabError
from labctl.host import files


def build(label: str, files: Mapping[str, bytes], mode: int = 0o400) -> bytes:
    """An ISO 9660 image with Rock Ridge and Joliet names, reproducible for the same files.

    :param files: name in the root directory -> content.
    :param mode: permissions of every file.
    """
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, vol_ident=label, rock_ridge="1.09", joliet=3)
    for number, (name, content) in enumerate(sorted(files.items())):
        image.add_fp(
            io.BytesIO(content),
            len(content),
            f"/F{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100000 | mode,
        )
    buffer = io.BytesIO()
    image.write_fp(buffer)
    image.close()
    return buffer.getvalue()


class Reader:
    """An installer's ISO, open for reading.

    :raises LabError: the file is not an ISO image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._image = pycdlib.PyCdlib()
        try:
            self._image.open(str(path))
        except (PyCdlibException, OSError) as error:
            raise LabError(f"{path} is not an ISO image: {error}", "labctl image verify") from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.close()

    @property
    def label(self) -> str:
        """The volume's identifier, by which Linux finds it under /dev/disk/by-label."""
        return str(self._image.pvd.volume_identifier.decode("ascii")).rstrip(" ")

    def extract(self, name: str, target: Path) -> None:
        """Copy a file, by its Linux path, such as ``/images/pxeboot/vmlinuz``.

        :raises LabError: no such file.
        """
        way = {"rr_path": name} if self._image.has_rock_ridge() else {"iso_path": name.upper() + ".;1"}
        try:
            with files.replacing(target) as sink:
                self._image.get_file_from_iso_fp(sink, **way)
        except PyCdlibException as error:
            raise LabError(f"{self.path} has no {name}", "is it an installer's ISO? labctl image list") from error


def escape(label: str) -> str:
    """A volume's label in a kernel's command line and under /dev/disk/by-label: udev's escapes."""
    return re.sub(r"[^0-9A-Za-z#+.:=@_-]", lambda match: f"\\x{ord(match[0]):02x}", label)
