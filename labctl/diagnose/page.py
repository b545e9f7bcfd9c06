"""docs/troubleshooting.md from the rows of the diagnosis; ``python -m labctl.diagnose.page`` prints it."""

from __future__ import annotations

from labctl.diagnose.breakages import BREAKAGES
from labctl.diagnose.patterns import PATTERNS
from labctl.diagnose.rows import ROWS

_HEAD = """# Troubleshooting

`labctl diagnose LAB` compares a lab with its plan: files option by option, packages, units, database accounts, the
catalog, accounts and roles, agents, names, cards, clocks, disks, the message queue. It changes nothing, and prints
root causes first: a finding on a lower level explains what depends on it. `--fix` applies the fixes that cannot lose
data, and looks again. The levels: machine, network, time, disk, packages, files, database, messaging, cache, schema,
identity, catalog, service, api, agent, guest.

The rows have the ids of the troubleshooting tables (docs/facts/troubleshooting.md); M and L are labctl's own. The last
column is an exercise that shows the finding: `labctl break LAB EXERCISE` (exercises.md).

| row | finding | usual cause | source | exercises |
|---|---|---|---|---|
"""

_LOGS = """

## Logs

`labctl diagnose --since TIME` also searches the end of each log since that time, by default the last 10 minutes, and
nothing from before the lab was ready. A line is a hint and proves nothing: it comes after the findings, is counted
under one of its rows or of what its service stands on, and does not make a lab wrong. An ordinary one, which a user's
request or a busy machine can cause, is shown only beside a finding, or with `--since`.

| row | services | words | usual cause | hint of | ordinary |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The text of the page."""
    shown = {row: ", ".join(f"`{breakage.name}`" for breakage in BREAKAGES if row in breakage.rows) for row in ROWS}
    lines = (f"| {r.id} | {r.title} | {r.cause} | {r.source} | {shown[r.id]} |" for r in ROWS.values())
    patterns = (
        f"| {p.row.id} | {', '.join(p.services)} | `{p.words.replace('|', chr(92) + '|')}` | {p.row.cause} "
        f"| {', '.join(p.row.of)} | {'yes' if p.ordinary else ''} |"
        for p in PATTERNS
    )
    return _HEAD + "\n".join(lines) + _LOGS + "\n".join(patterns) + "\n"


if __name__ == "__main__":
    print(page(), end="")
