"""Drawing with matplotlib for a page with a light and a dark theme.

Colours are placeholders that become CSS variables in a page, and colours of the light theme in a file of its own.
"""

import contextlib
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.figure
import numpy as np

INK, MUTED, GRID, PAPER = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
SERIES = tuple(f"#0b0b{number:02x}" for number in range(8))
# Okabe and Ito, Color Universal Design, 2008: told apart with every common colour vision. Darker yellow.
LIGHT_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a5195", "#6b6b6b")
DARK_SERIES = ("#5aaee0", "#f08a4b", "#3fc79d", "#e3a1c4", "#e6c84f", "#8fd0f5", "#b79ad6", "#a8a8a8")
LIGHT = {INK: "#1b1b1b", MUTED: "#6a6a6a", GRID: "#dcdcdc", PAPER: "#ffffff"} | dict(
    zip(SERIES, LIGHT_SERIES, strict=True)
)
DARK = {INK: "#ececec", MUTED: "#a6a6a6", GRID: "#3a3a3a", PAPER: "#161616"} | dict(
    zip(SERIES, DARK_SERIES, strict=True)
)
NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"c{number}" for number, colour in enumerate(SERIES)
}
MARKERS = "osD^vPX*"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cmarr_jax",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
      name: For its address, unique.
      title: What it shows.
      caption: How to read it, or what it says.
      alt: For those who cannot see it.
      svg: With placeholders for colours.
      header: Of the table of its numbers.
      numbers: Rows of that table.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    header: Sequence[str]
    numbers: Sequence[Sequence[Any]]


SHORT_LABEL = 28  # letters; three columns of these fit
LETTERS_PER_INCH, LINE_HEIGHT = 14, 0.14  # of a legend at 8 points


@contextlib.contextmanager
def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple[matplotlib.figure.Figure, np.ndarray]]:
    """A figure of a size in inches and its axes `[rows, columns]`."""
    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def legend_below(figure: matplotlib.figure.Figure, axis: matplotlib.axes.Axes) -> None:
    """One legend under all axes; it makes the figure higher. Long labels are wrapped, or they would be cut off."""
    handles, labels = axis.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    columns = min(3 if max(map(len, labels)) <= SHORT_LABEL else 2, len(labels))
    labels = [textwrap.fill(label, int(LETTERS_PER_INCH * width / columns) - 6) for label in labels]
    lines = max(label.count("\n") + 1 for label in labels) * -(-len(labels) // columns)
    figure.set_size_inches(width, height + LINE_HEIGHT * lines)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def to_svg(figure: matplotlib.figure.Figure, name: str) -> str:
    """The figure as SVG with placeholders; its ids begin with `name`, so that several fit into one page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg xmlns="http://www.w3.org/2000/svg" '
                  r'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1">', text, count=1)  # fmt: skip


def for_page(svg: str) -> str:
    """Placeholders as CSS variables."""
    for colour, name in NAMES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def for_file(svg: str) -> str:
    """Placeholders as colours of the light theme, on white."""
    for colour, value in LIGHT.items():
        svg = svg.replace(colour, value)
    start = svg.index(">") + 1
    return svg[:start] + '<rect width="100%" height="100%" fill="#ffffff"/>' + svg[start:]
