"""A lab's graph as SVG: networks are bars, nodes stand below them, each card is a line up to its network.

The layout is a function of the graph alone, so the drawing of a topology changes only with the topology.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from textwrap import wrap

from labctl.plan.graph import Graph, Network, Node

#: Pixels: between things, of a line of text, of a letter on average, of a card's column, between bars.
GAP, LINE, LETTER, COLUMN, BAR = 24, 16, 7, 124, 44
#: Letters of a line of components; the least width of a node.
WRAPPED, NARROW = 34, 210
_COLOURS = {"management": "#2563a8", "overlay": "#8a4f9e", "provider": "#2e7d4f"}
_GREY = "#666666"
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    'font-family="sans-serif" font-size="12" role="img" aria-label="{title}">'
)


def _width(node: Node) -> int:
    letters = max(len(text) for text in (node.name, node.size, *_lines(node)))
    return max(NARROW, COLUMN * len(node.cards), letters * LETTER + GAP)


def _lines(node: Node) -> list[str]:
    later = ["joins later"] if node.later else []
    return [*later, *wrap(", ".join(node.runs), WRAPPED, break_on_hyphens=False)]


def _colour(network: Network) -> str:
    return _COLOURS.get(network.role, _GREY)


def _text(x: int, y: int, text: str, **more: str) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x}" y="{y}"{attributes}>{escape(text)}</text>'


def svg(drawn: Graph) -> str:
    """The drawing, as a document of its own."""
    widths = [_width(node) for node in drawn.nodes]
    width = max(sum(widths) + GAP * (len(widths) + 1), max(len(n.title) for n in drawn.networks) * LETTER + 2 * GAP)
    bars = {network.name: 2 * GAP + BAR * (number + 1) for number, network in enumerate(drawn.networks)}
    top = max(bars.values()) + 3 * LINE + GAP
    height = top + max(LINE * (len(_lines(node)) + 3) for node in drawn.nodes) + GAP
    parts = [
        _HEAD.format(width=width, height=height, title=escape(drawn.lab)),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(GAP, GAP + 4, drawn.lab, font_size="16", font_weight="bold"),
        *(_bar(network, bars[network.name], width) for network in drawn.networks),
    ]
    left = GAP
    for node, wide in zip(drawn.nodes, widths, strict=True):
        parts += _node(node, left, top, wide, height - GAP - top)
        parts += _cards(node, left, top, bars, drawn.networks)
        left += wide + GAP
    parts += [_title(network, bars[network.name]) for network in drawn.networks]  # over the cards' lines
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(network: Network, y: int, width: int) -> str:
    colour, dashes = _colour(network), ' stroke-dasharray="8 5"' if network.vlan else ""
    return f'<line x1="{GAP}" x2="{width - GAP}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="5"{dashes}/>'


def _title(network: Network, y: int) -> str:
    halo = {"stroke": "white", "stroke_width": "5", "paint_order": "stroke"}
    return _text(GAP, y - 8, network.title, fill=_colour(network), font_weight="bold", **halo)


def _node(node: Node, left: int, top: int, width: int, height: int) -> Iterator[str]:
    dashes = ' stroke-dasharray="5 4"' if node.later else ""
    yield (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="#f4f6f8" stroke="#333333"{dashes}/>'
    )
    yield _text(left + 10, top + 20, node.name, font_size="14", font_weight="bold")
    yield _text(left + 10, top + 20 + LINE, node.size, fill=_GREY)
    for number, line in enumerate(_lines(node), 2):
        yield _text(left + 10, top + 22 + LINE * number, line)


def _cards(node: Node, left: int, top: int, bars: dict[str, int], networks: Sequence[Network]) -> Iterator[str]:
    colours = {network.name: _colour(network) for network in networks}
    for number, card in enumerate(node.cards):
        x, y, colour = left + 14 + COLUMN * number, bars[card.network], colours[card.network]
        yield f'<line x1="{x}" x2="{x}" y1="{y}" y2="{top}" stroke="{colour}" stroke-width="2"/>'
        yield f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>'
        yield _text(x + 6, top - 8 - LINE, card.name)
        yield _text(x + 6, top - 8, card.address or "no address", fill="black" if card.address else _GREY)
