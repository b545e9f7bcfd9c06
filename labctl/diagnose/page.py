"""docs/troubleshooting.md from the rows of the diagnosis; ``python -m labctl.diagnose.page`` prints it."""

from __future__ import annotations

from labctl.diagnose.breakages import BREAKAGES
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


def page() -> str:
    """The text of the page."""
    shown = {row: ", ".join(f"`{breakage.name}`" for breakage in BREAKAGES if row in breakage.rows) for row in ROWS}
    lines = (f"| {r.id} | {r.title} | {r.cause} | {r.source} | {shown[r.id]} |" for r in ROWS.values())
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
