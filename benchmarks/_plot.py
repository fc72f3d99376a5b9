"""Lines over time as an SVG, for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 30, 30


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]
    """Seconds and values, by time."""
    colour: str
    is_stepped: bool = False


def svg(title: str, lines: Sequence[Line], label: Callable[[float], str]) -> str:
    """``label`` of a value, for the axis."""
    end = max(line.points[-1][0] for line in lines)
    top = max(value for line in lines for _, value in line.points)
    shapes, at = [], 60
    for line in lines:
        points = " ".join(_placed(line, end, top))
        shapes.append(
            f'<polyline fill="none" stroke="{line.colour}" stroke-width="1.2" points="{points}"/>'
            f'<text x="{at}" y="18" fill="{line.colour}">{line.name}</text>'
        )
        at += 30 + 7 * len(line.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<path d="M{LEFT} 25V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#555"/>'
        f'<text x="4" y="36">{label(top)}</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT - 10}">{end:.0f} s</text>'
        f'<text x="{WIDTH - RIGHT}" y="18" text-anchor="end">{title}</text>'
        + "".join(shapes)
        + "</svg>\n"
    )


def _placed(line: Line, end: float, top: float) -> list[str]:
    step = max(1, len(line.points) // 600)
    found: list[str] = []
    before = ""
    for at, value in line.points[::step]:
        x = LEFT + at / end * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
        if line.is_stepped and before:
            found.append(f"{x:.1f},{before}")
        before = f"{y:.1f}"
        found.append(f"{x:.1f},{before}")
    return found
