"""Hooks of MkDocs: pages that live elsewhere in the repository, links between them, formulas, the notebook.

Every text has one source. A README stays where GitHub shows it and becomes a page here; links in all pages are those of
the repository, and are translated when the site is built.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
DOCS = "docs/"
# Pages outside of docs/, by their address in the site. The first page of the site is docs/index.md.
ELSEWHERE = {"project.md": "README.md"} | {
    path: path
    for path in (
        "data_prep/README.md",
        "data_prep/corpora/README.md",
        "data_prep/extractors/README.md",
        "data_prep/synthetic/README.md",
        "experiments/README.md",
        "experiments/RESULTS.md",
        "experiments/NOTES.md",
        "benchmarks/RESULTS.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    )
}
TOKENS = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}).*?^(?P=indent)(?P=fence)|(?P<tick>`+)[^`].*?(?P=tick)(?!`)"
    r"|\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?P<target>[^)\s]+)\)"
    r"|(?P<list>\n)(?=(?:[-*]|\d+\.) )",
    re.DOTALL | re.MULTILINE,
)
DIAGRAM = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
ARROW = re.compile(r'(\w+)(?:\["(.*?)"\])? -->(?:\|(.*?)\|)? (\w+)(?:\["(.*?)"\])?')
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not in docs/, and each notebook as a page with its outputs."""
    for address, path in ELSEWHERE.items():
        files.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            text = notebook_text(Path(file.abs_src_path))
            files.append(File.generated(config, address_of(DOCS + file.src_uri), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page for the site."""
    return translate(markdown, ELSEWHERE.get(page.file.src_uri, DOCS + page.file.src_uri))


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers show without a script."""
    return FORMULA.sub(_to_mathml, content)


def translate(markdown: str, path: str) -> str:
    """Markdown of the page at `path` in the repository, with the links, diagrams and lists that the site has."""
    markdown = DIAGRAM.sub(lambda found: arrows_table(found[1]), markdown)

    def changed(found: re.Match[str]) -> str:
        if found["target"]:
            return _link(found, path)
        before = markdown[: found.start()].rpartition("\n")[2]
        # A list may follow a paragraph directly on GitHub; Python-Markdown wants an empty line between them.
        follows_paragraph = re.match(r"(?![-*] |\d+\. )[\w*]", before)
        return "\n\n" if found["list"] and follows_paragraph else found[0]

    return TOKENS.sub(changed, markdown)


def address_of(path: str) -> str | None:
    """Where the site has a file of the repository; `None` if it has not."""
    for address, source in ELSEWHERE.items():
        if source == path:
            return address
    if not path.startswith(DOCS) or path.endswith(".py"):
        return None
    return path.removeprefix(DOCS).replace(".ipynb", ".md")


def arrows_table(diagram: str) -> str:
    """The arrows of a Mermaid flow chart, one a row: Mermaid itself would be a script from a network."""
    names: dict[str, str] = {}
    rows = ["| from | by | to |", "|---|---|---|"]
    for source, source_name, label, target, target_name in ARROW.findall(diagram):
        names |= {key: name for key, name in ((source, source_name), (target, target_name)) if name}
        by = ", ".join(f"`{part}`" for part in label.split(", ")) if label else ""
        rows.append(f"| {names[source]} | {by} | {names[target]} |")
    return "\n".join(rows)


def notebook_text(path: Path) -> str:
    """Runs a notebook and returns it as Markdown, with what it prints.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell fails; the site is not built then.
    """
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(ROOT)}}
    quiet = ["--log-level=ERROR"]  # of the kernel: it warns that it talks over TCP, here to this process only
    nbclient.NotebookClient(notebook, timeout=1800, resources=place, extra_arguments=quiet).execute()
    parts = []
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        printed = "".join(output.text for output in cell.get("outputs", ()) if output.get("name") == "stdout")
        parts.append(f"```text\n{printed}```" if printed else "")
    return "\n\n".join(part for part in parts if part)


def _link(found: re.Match[str], path: str) -> str:
    target, _, anchor = found["target"].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return found[0]
    source = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    address = address_of(source)
    if not (ROOT / source).exists():
        return found[0]  # MkDocs warns of it
    if address is None:
        return found["text"] if "`" in found["text"] else f"`{found['text']}`"
    start = posixpath.dirname(address_of(path) or "")
    relative = posixpath.relpath(address, start or ".")
    return f"[{found['text']}]({relative}{'#' * bool(anchor)}{anchor})"


def _to_mathml(found: re.Match[str]) -> str:
    tag, formula = found.groups()
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="formula">{convert(html.unescape(formula), display=display)}</{tag}>'
