# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bars of seconds as an SVG picture: medians, with a line from the shortest to the longest."""

import statistics
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, NAMES, NUMBERS = 860, 300, 70
ROW, BAR, HEAD, GAP = 22, 14, 34, 18
BARS = WIDTH - NAMES - NUMBERS
OURS, OTHERS, SPREAD = "#2f6f9f", "#b8bec4", "#333333"


@dataclass(frozen=True)
class Row:
    title: str
    is_ours: bool
    seconds: list


def text(x, y, words, **attributes):
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x}" y="{y}"{more}>{escape(words)}</text>'


def bar(row, y, scale):
    median, middle = statistics.median(row.seconds), y + ROW / 2
    first, last = (NAMES + value(row.seconds) * scale for value in (min, max))
    return [
        text(NAMES - 8, middle + 4, row.title, text_anchor="end"),
        f'<rect x="{NAMES}" y="{middle - BAR / 2}" width="{median * scale:.1f}" height="{BAR}" '
        f'fill="{OURS if row.is_ours else OTHERS}"/>',
        f'<line x1="{first:.1f}" y1="{middle}" x2="{last:.1f}" y2="{middle}" stroke="{SPREAD}"/>',
        text(max(last, NAMES + median * scale) + 6, middle + 4, f"{median:.2f} s"),
    ]


def draw(path, charts):
    """`charts`: pairs of a title and rows, each chart with a scale of its own."""
    parts, y = [], 8
    for title, rows in charts:
        parts.append(text(8, y + 16, title, font_weight="bold"))
        y += HEAD
        scale = BARS / max(max(row.seconds) for row in rows)
        for row in rows:
            parts += bar(row, y, scale)
            y += ROW
        y += GAP
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>\n'
        + "\n".join(parts) + "\n</svg>\n", encoding="utf-8")
