"""The verb fault: inject faults into a lab, list them, undo them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import typer

from labctl.commands import rows
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import Output
from labctl.errors import LabError
from labctl.host import paths
from labctl.host.links import Shape
from labctl.lab import fault as faults
from labctl.records.lab import Lab, locked

GRAMMAR = """labctl fault LAB node kill|start|pause|resume NODE
labctl fault LAB link cut|shape|heal NODE NETWORK [--delay 100ms] [--loss 5%] [--rate 2mbit]
labctl fault LAB service kill|stop|start NODE UNIT
labctl fault list LAB [-o json]
labctl fault heal LAB"""

Action = Callable[[Lab, list[str], Shape], object]
#: (what, action) -> (the names it takes, what it does)
ACTIONS: dict[tuple[str, str], tuple[tuple[str, ...], Action]] = {
    ("node", "kill"): (("NODE",), lambda lab, names, _: faults.kill_node(lab, *names)),
    ("node", "start"): (("NODE",), lambda lab, names, _: faults.start_node(lab, *names)),
    ("node", "pause"): (("NODE",), lambda lab, names, _: faults.pause_node(lab, *names)),
    ("node", "resume"): (("NODE",), lambda lab, names, _: faults.resume_node(lab, *names)),
    ("link", "cut"): (("NODE", "NETWORK"), lambda lab, names, _: faults.cut_link(lab, *names)),
    ("link", "heal"): (("NODE", "NETWORK"), lambda lab, names, _: faults.heal_link(lab, *names)),
    ("link", "shape"): (("NODE", "NETWORK"), lambda lab, names, how: faults.shape_link(lab, names[0], names[1], how)),
    ("service", "kill"): (("NODE", "UNIT"), lambda lab, names, _: faults.kill_service(lab, *names)),
    ("service", "stop"): (("NODE", "UNIT"), lambda lab, names, _: faults.stop_service(lab, *names)),
    ("service", "start"): (("NODE", "UNIT"), lambda lab, names, _: faults.start_service(lab, *names)),
}
_UNITS = {
    "delay": ("100ms or 0.2s", {"ms": 1, "s": 1000}),
    "loss": ("5%", {"%": 1}),
    "rate": ("512kbit or 2mbit", {"kbit": 1, "mbit": 1000, "gbit": 1_000_000}),
}


def quantity(option: str, text: str | None, instead: str = "") -> float:
    """The value of --delay (milliseconds), --loss (percent) or --rate (kbit/s); 0 when it was not given.

    :param instead: hint for a value out of range.
    :raises LabError: it is invalid or out of range.
    """
    if text is None:
        return 0
    example, factors = _UNITS[option]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\S+)", text.strip().lower())
    if not found or found[2] not in factors:
        raise LabError(f"--{option} {text} is not valid; use {example}")
    value = float(found[1]) * factors[found[2]]
    if value == 0 or (option == "loss" and value > 100):
        raise LabError(f"--{option} {text} is out of range", instead)
    return value


def fault(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="as above")],
    delay: Annotated[str | None, typer.Option(help="link shape: delay added to a round trip, 100ms or 0.2s")] = None,
    loss: Annotated[str | None, typer.Option(help="link shape: packet loss in each direction, 5%")] = None,
    rate: Annotated[str | None, typer.Option(help="link shape: maximum rate to the node, 512kbit or 2mbit")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Inject faults into a lab, list them, undo them.

    \b
    labctl fault LAB node kill|start|pause|resume NODE
    labctl fault LAB link cut|shape|heal NODE NETWORK [--delay 100ms] [--loss 5%] [--rate 2mbit]
    labctl fault LAB service kill|stop|start NODE UNIT
    labctl fault list LAB [-o json]
    labctl fault heal LAB

    A fault stays until it is undone: by the opposite action, by heal, or by up.
    """
    whole = f"labctl fault {words[0]} link heal {' '.join(words[3:])}" if len(words) == 5 else "labctl fault --help"
    shape = Shape(quantity("delay", delay, whole), quantity("loss", loss, whole), quantity("rate", rate, whole))
    if len(words) == 2 and words[0] == "list":
        listing(output, rows.faults(Lab.load(words[1])), ["fault", "node", "target", "detail", "since"])
        return
    if len(words) == 2 and words[0] == "heal":
        _heal(words[1])
        return
    lab, what, action, *names = words if len(words) >= 3 else ("", "", "")
    wanted, do = ACTIONS.get((what, action), ((), None))
    if do is None or len(names) != len(wanted):
        raise LabError(f"invalid arguments: labctl fault {' '.join(words)}\n{GRAMMAR}", "labctl fault --help")
    if str(shape) and action != "shape":
        raise LabError("--delay, --loss and --rate apply only to link shape", "labctl fault --help")
    Lab.load(lab)
    with locked(lab, f"labctl fault {' '.join(words)}"), progress(paths.labs() / lab / "events.jsonl"):
        do(Lab.load(lab), names, shape)


def _heal(lab: str) -> None:
    from labctl.diagnose import run as diagnoses

    Lab.load(lab)
    with locked(lab, f"labctl fault heal {lab}"), progress(paths.labs() / lab / "events.jsonl"):
        found = Lab.load(lab)
        exercises = [f for f in faults.active(found) if f.kind is faults.Kind.EXERCISE]
        healed = faults.heal_all(found)
        if exercises:
            diagnoses.undo(found, exercises)
    for one in healed:
        out.print(f"healed: {one}")
    if not healed:
        out.print(f"{lab}: no faults")
