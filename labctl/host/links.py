"""Links of nodes to networks: unplug, plug in, add delay or loss, limit the rate, and restore.

Everything happens at the end of the cable in the lab's network, outside the node: nothing in the node can undo it,
and it works the same for every driver whose nodes are plugged in there.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.errors import LabError
from labctl.host import network, process
from labctl.topology.spec import InterfaceSpec, LabSpec


@dataclass(frozen=True)
class Shape:
    """What a link does to packets; an empty shape does nothing.

    ``delay`` (milliseconds) and ``rate`` (kbit/s) act on packets to the node, so a round trip takes
    ``delay`` longer; ``loss`` (percent) acts on packets in both directions.
    """

    delay: float = 0
    loss: float = 0
    rate: float = 0

    def __str__(self) -> str:
        parts = (("delay", self.delay, " ms"), ("loss", self.loss, " %"), ("rate", self.rate, " kbit/s"))
        return ", ".join(f"{name} {value:g}{unit}" for name, value, unit in parts if value)


#: The shape of an unmodified link.
WHOLE = Shape()


def card(spec: LabSpec, node: str, name: str) -> InterfaceSpec:
    """A node's card in a network.

    :raises LabError: no such node or network, or the node is not in the network.
    """
    cards = {found.network: found for found in spec.node(node).interfaces}
    if name not in cards:
        raise LabError(f"{node} of {spec.name} is not in a network '{name}'; it is in {', '.join(cards)}")
    return cards[name]


def plug(spec: LabSpec, node: str, name: str, up: bool) -> None:
    """Unplug a node's cable from a network, or plug it in; unplugged, its card has no carrier."""
    for port in network.ports(card(spec, node, name)):
        if not up or _is_there(spec.name, port):
            process.run(["ip", "-n", network.lab_namespace(spec.name), "link", "set", port, "up" if up else "down"])


def is_plugged(spec: LabSpec, node: str, name: str) -> bool:
    """True while the cable is plugged in, of a bond any of its cables."""
    words = ["ip", "-n", network.lab_namespace(spec.name), "-br", "link", "show", "up", "dev"]
    cables = network.ports(card(spec, node, name))
    return any(process.run([*words, port], check=False).stdout.strip() for port in cables)


def shape(spec: LabSpec, node: str, name: str, wanted: Shape) -> None:
    """Set a link's delay, loss and rate; an empty shape restores it.

    :raises LabError: the kernel does not support it; the link is left unmodified.
    """
    ports = [p for p in network.ports(card(spec, node, name)) if wanted != WHOLE or _is_there(spec.name, p)]
    try:
        for port in ports:
            _plain(spec.name, port)
            if wanted.delay or wanted.rate:
                _queue(spec.name, port, wanted)
            if wanted.loss:
                network.inside(spec.name, ["nft", "-f", "-"], stdin=_dropping(port, wanted.loss))
    except LabError:
        for port in ports:
            _plain(spec.name, port)
        raise


def _is_there(name: str, port: str) -> bool:
    """False when the machine is gone: its next cable is new and unmodified."""
    return process.run(["ip", "-n", network.lab_namespace(name), "link", "show", port], check=False).returncode == 0


def _plain(name: str, port: str) -> None:
    process.run(["tc", "-n", network.lab_namespace(name), "qdisc", "delete", "dev", port, "root"], check=False)
    network.inside(name, ["nft", "-f", "-"], stdin=f"table netdev {port}\ndelete table netdev {port}\n")


def _queue(name: str, port: str, wanted: Shape) -> None:
    if wanted.delay:
        rate = [f"rate {wanted.rate:g}kbit"] if wanted.rate else []
        words = ["netem", f"delay {wanted.delay:g}ms", *rate]
    else:
        # a bucket of 10 ms or two frames; packets that wait longer than 400 ms are dropped
        burst = max(3200, round(wanted.rate * 1000 / 8 / 100))
        words = ["tbf", f"rate {wanted.rate:g}kbit burst {burst} latency 400ms"]
    command = ["tc", "-n", network.lab_namespace(name), "qdisc", "add", "dev", port, "root"]
    done = process.run([*command, *" ".join(words).split()], check=False)
    if done.returncode != 0 and "kind is unknown" in done.stderr:
        option, module = ("--delay", "sch_netem") if wanted.delay else ("--rate", "sch_tbf")
        raise LabError(
            f"{option} needs {words[0]} ({module}), which this host's kernel does not have",
            f"modprobe {module}, where the kernel has modules; --loss works without it",
        )
    if done.returncode != 0:
        raise LabError(f"tc cannot shape {port}: {done.stderr.strip()}")


def _dropping(port: str, loss: float) -> str:
    """A packet filter at the cable's end that drops ``loss`` percent of the packets in both directions."""
    some = f"numgen random mod 10000 < {round(loss * 100)} " if loss < 100 else ""
    chains = "".join(
        f' chain {hook} {{\n  type filter hook {hook} device "{port}" priority 0;\n  {some}drop\n }}\n'
        for hook in ("ingress", "egress")
    )
    return f"table netdev {port} {{\n{chains}}}\n"
