"""Parts of an HTML page: the document with its two themes, contents, figures, tables."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.report.drawing import DARK, LIGHT, NAMES, Figure, for_page

STYLE = (Path(__file__).parent / "page.css").read_text()
Cells = Sequence[Sequence[Any]]


def document(title: str, sections: Iterable[str]) -> str:
    """A whole page, light and dark, without network requests."""
    variables = lambda theme: "".join(f"--{NAMES[key]}:{value};" for key, value in theme.items())
    theme = f":root{{{variables(LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        "<meta name='color-scheme' content='light dark'>\n<link rel='icon' href='data:,'>\n"
        f"<title>{html.escape(title)}</title>\n<style>{theme}\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def contents(sections: Iterable[tuple[str, str]]) -> str:
    """Links to sections, given by id and title."""
    return "<nav>" + " ".join(f"<a href='#{name}'>{html.escape(text)}</a>" for name, text in sections) + "</nav>"


def figure_section(figure: Figure) -> str:
    """A figure with its caption and the table of its numbers."""
    return (
        f"<section id='{figure.name}'><h2>{html.escape(figure.title)}</h2><figure><div class='scroll'>"
        "<div class='drawing' role='img' "
        f"aria-label='{html.escape(figure.alt, quote=True)}'>{for_page(figure.svg)}</div>"
        f"</div><figcaption>{html.escape(figure.caption)}</figcaption></figure><details><summary>Numbers</summary>"
        f"<div class='scroll'>{html_table(figure.header, figure.numbers)}</div></details></section>"
    )


def html_table(header: Sequence[str], cells: Cells) -> str:
    """A table of plain texts and numbers; the first cell of a row says what the row is of."""
    head = "".join(f"<th scope='col'>{html.escape(str(text))}</th>" for text in header)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(str(name))}</th>"
        + "".join(f"<td>{html.escape(str(value))}</td>" for value in values)
        + "</tr>"
        for name, *values in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def inline(text: str) -> str:
    """A note with its code and strong marks as HTML."""
    text = html.escape(text)
    for mark, tag in (("**", "strong"), ("`", "code")):
        parts = text.split(mark)
        text = "".join(part if place % 2 == 0 else f"<{tag}>{part}</{tag}>" for place, part in enumerate(parts))
    return text
