"""Which line of a program's output says why it failed."""

from __future__ import annotations

import re

#: How programs start the line that says why they failed, most specific first. dpkg's names a package; the line
#: after it says what went wrong.
_TELLING = (
    re.compile(r"(?i)no space left on device"),
    re.compile(r"^dpkg: error processing .*"),
    re.compile(r"^(?:E|error|fatal|ERROR|CommandError): |^[\w./-]+: (?:error|fatal|cannot)\b"),
    re.compile(r"^Err\b.*"),
    re.compile(r"^\w*(\.\w+)*(Error|Exception)\b"),
)


def last_words(text: str) -> str:
    """The line in which a program says why it failed: the most specific one, else the last; up to 400 characters.

    dpkg says on one line which package failed and on the next how; these are joined.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    for pattern in _TELLING:
        for number, line in enumerate(lines):
            if pattern.search(line):
                follows = f" {lines[number + 1]}" if line.endswith(":") and number + 1 < len(lines) else ""
                return (line + follows)[:400]
    return lines[-1][:400] if lines else "no output"
