"""Configuration files in oslo.config's format, built option by option with the source of each.

The rules of section 11 of docs/facts/releases.md hold by construction: a value never carries a comment,
``[DEFAULT]`` is written as such, and a literal ``$`` is doubled unless it is meant as a reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from labctl.operations.node import File
from labctl.secret import within

Value = str | int | bool


class Ini:
    """A file under construction; sections and options keep the order in which they were set.

    :param literal: secrets are written as they are, for Paste Deploy, which knows no quotes.
    """

    def __init__(
        self, path: str, *, owner: str = "root", group: str = "root", mode: str = "0640", literal: bool = False
    ) -> None:
        self.path, self.owner, self.group, self.mode = path, owner, group, mode
        self.literal = literal
        self._sections: dict[str, dict[str, tuple[str, str]]] = {}

    def set(self, section: str, source: str, options: Mapping[str, Value]) -> Ini:
        """Set options of a section, all from the same source; a later setting wins."""
        lines = self._sections.setdefault(section, {})
        for key, value in options.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            lines[key] = (text if self.literal else within(text, "oslo"), source)
        return self

    def but(self, section: str, source: str, options: Mapping[str, Value]) -> Ini:
        """A copy with other options of a section, which keep their places."""
        made = copy(self)
        made._sections = {**self._sections, section: dict(self._sections.get(section, {}))}
        return made.set(section, source, options)

    def render(self) -> str:
        """Return the file's text; a comment names the source before each run of options that share it."""
        out = ["# Made by labctl; changes are overwritten by the next `labctl up`."]
        for section, options in self._sections.items():
            out += ["", f"[{section}]"]
            last = ""
            for key, (value, source) in options.items():
                if source != last:
                    out.append(f"# {source}")
                    last = source
                out.append(f"{key} = {value}")
        return "\n".join(out) + "\n"

    def file(self) -> File:
        """Return the operation that writes the file."""
        sources = sorted({s for options in self._sections.values() for _, s in options.values()})
        return File(self.path, self.render(), self.owner, self.group, self.mode, "; ".join(sources))
