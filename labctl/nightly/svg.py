"""Charts as SVG text, for a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

Points = Sequence[tuple[int, float]]
#: Maximum number of points; more are merged.
MOST = 180
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 190, 46, 22, 8


def thinned(points: Points, most: int = MOST) -> list[tuple[int, float]]:
    """At most ``most`` points: each is the median of the points it replaces, at the run of the last one."""
    if len(points) <= most:
        return list(points)
    step = len(points) / most
    parts = [points[int(i * step) : int((i + 1) * step)] for i in range(most)]
    return [(part[-1][0], median(value for _, value in part)) for part in parts]


def chart(title: str, series: Mapping[str, Points]) -> str:
    """Lines of seconds over runs, the axis in minutes; the newest values are in its label for screen readers."""
    lines = {name: thinned(points) for name, points in series.items() if points}
    every = [point for points in lines.values() for point in points]
    if not every:
        return ""
    low, high = min(run for run, _ in every), max(run for run, _ in every)
    top = max(value for _, value in every) or 1.0

    def x(run: int) -> float:
        return LEFT + (run - low) / max(1, high - low) * (WIDTH - LEFT - 8)

    def y(value: float) -> float:
        return TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM)

    newest = ", ".join(f"{name} {points[-1][1] / 60:.1f} min" for name, points in lines.items())
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(newest)}" class="chart">'
    ]
    for part in (0.0, 0.5, 1.0):
        at = y(top * part)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{top * part / 60:.1f}</text>')
    for run in dict.fromkeys((low, high)):
        anchor = "start" if run == low else "end"
        parts.append(f'<text x="{x(run):.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">run {run}</text>')
    for number, (name, points) in enumerate(lines.items()):
        path = " ".join(f"{x(run):.1f},{y(value):.1f}" for run, value in points)
        parts.append(f'<polyline class="line s{number}" points="{path}"><title>{escape(name)}</title></polyline>')
        run, value = points[-1]
        parts.append(f'<circle class="dot s{number}" cx="{x(run):.1f}" cy="{y(value):.1f}" r="3"/>')
    return "".join([*parts, "</svg>"])


def strip(outcomes: Sequence[tuple[int, str]], label: str) -> str:
    """A row of small boxes with a test's outcomes, one per run, oldest first."""
    count = {o: sum(x == o for _, x in outcomes) for o in ("passed", "failed", "skipped")}
    said = ", ".join(f"{n} {o}" for o, n in count.items() if n)
    boxes = "".join(
        f'<rect class="{escape(o)}" x="{i * 9}" y="0" width="7" height="14" rx="1"><title>run {run}: {escape(o)}'
        "</title></rect>"
        for i, (run, o) in enumerate(outcomes)
    )
    width = max(9, len(outcomes) * 9)
    return (
        f'<svg class="strip" width="{width}" height="14" viewBox="0 0 {width} 14" role="img" '
        f'aria-label="{escape(label)}: {said}">{boxes}</svg>'
    )
