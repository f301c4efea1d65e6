"""One HTML page that needs nothing else: figures are embedded, there is no script and no network.

Particular: figures are drawn dark on nothing, and a browser that is set to dark inverts their brightness (hues
stay), so that the page looks the same printed, on a phone, and at night.
"""

import io
import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem;
       background: Canvas; color: CanvasText; overflow-wrap: break-word }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #8886 }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.3rem }
nav a { margin-right: 1rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.2rem }
figure { margin: 0; max-width: 34rem }
img { width: 100%; height: auto }
figcaption, .note { font-size: 0.88rem; opacity: 0.85 }
.warning { border-left: 0.3rem solid #d55e00; padding-left: 0.7rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.92rem }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid #8884 }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums }
pre { font-size: 0.8rem; overflow-x: auto }
@media (prefers-color-scheme: dark) { img { filter: invert(1) hue-rotate(180deg) } }
@media print { img { filter: none } }
"""
DPI = 160
DIGITS = 9
"""Decimals up to which a number is written out."""


def page(title: str, sections: Sequence[tuple[str, Iterable[str]]]) -> bytes:
    """A page of sections (heading, pieces of HTML), as UTF-8."""
    links = "".join(f'<a href="#s{i}">{escape(heading)}</a>' for i, (heading, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{i}">\n<h2>{escape(heading)}</h2>\n{"".join(pieces)}</section>\n'
        for i, (heading, pieces) in enumerate(sections)
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )
    return text.encode()


def heading(text: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(text)}</h3>\n"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is '', 'note' or 'warning'."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; columns whose position is in `numbers` are not broken into lines."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)

    def cell(place: int, text: str) -> str:
        return f'<td class="number">{escape(text)}</td>' if place in numbers else f"<td>{escape(text)}</td>"

    lines = "".join("<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n'


def folded(summary: str, text: str) -> str:
    """Plain text that is shown on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>\n"


def plots(figures: Iterable[tuple[Figure, str, str]]) -> str:
    """Figures side by side where there is room: (figure, what it is, text below it)."""
    cards = "".join(
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{b64encode(png(figure)).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        for figure, alt, caption in figures
    )
    return f'<div class="plots">\n{cards}</div>\n'


def plus_minus(value: float, up: float, down: float | None = None) -> str:
    """A number with its error, `0.912 ± 0.013`, or with two errors, `0.912 +0.012 −0.013`; errors show two digits."""
    largest = up if down is None else max(up, down)
    if not math.isfinite(largest):
        return f"{value:.4g}"
    digits = max(1 - math.floor(math.log10(largest)), 0) if largest > 0 else 4
    if digits > DIGITS:
        return f"{value:.3g} ± {largest:.1g}".replace("-", "−")
    errors = f"± {up:.{digits}f}" if down is None else f"+{up:.{digits}f} −{down:.{digits}f}"
    return f"{value:.{digits}f} {errors}".replace("-", "−")


def png(figure: Figure, *, transparent: bool = True) -> bytes:
    """A figure as a PNG, without background if asked; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, transparent=transparent, metadata={"Software": None})
    return buffer.getvalue()
