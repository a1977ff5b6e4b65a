"""The pages and their metadata: links, code, commands, versions. Imports no JAX: `make check` runs this file alone."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

import cmarr_jax

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part[0] == "." or part == "runs" for part in path.relative_to(ROOT).parts)
)
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def tokens(page: Path) -> list[Token]:
    """Blocks of a page, each followed by what is inside it."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    return [token for block in blocks for token in (block, *(block.children or []))]


def anchors(page: Path) -> set[str]:
    """Names of the headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    parts = tokens(page)
    titles = [parts[i + 1].content for i, part in enumerate(parts) if part.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page):
    parts = tokens(page)
    links = [part.attrs.get("href") or part.attrs.get("src") for part in parts if part.type in ("link_open", "image")]
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_commits_that_pages_name_are_in_the_history():
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("needs the whole history")
    named = {
        name for page in PAGES for name in re.findall(r"(?<=`)(?=[0-9a-f]*[a-f])[0-9a-f]{7,12}(?=`)", page.read_text())
    }
    assert len(named) > 20
    assert [name for name in sorted(named) if git("cat-file", "-e", f"{name}^{{commit}}").returncode] == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_code_is_python_and_commands_exist(page):
    fences = [part for part in tokens(page) if part.type == "fence"]
    for fence in fences:
        if fence.info == "python":
            ast.parse(fence.content, str(page))
    code = "\n".join(part.content for part in tokens(page) if part.type in ("fence", "code_inline"))
    for module in re.findall(r"python -m ((?:experiments|data_prep|benchmarks|tests)[\w.]*\w)", code):
        path = ROOT / module.removesuffix(".NAME").replace(".", "/")  # NAME: one of the modules of a package
        runs = (path / "__init__.py") if module.endswith(".NAME") else (path / "__main__.py")
        assert path.with_suffix(".py").exists() or runs.exists(), module
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make ([\w-]+)", code, re.MULTILINE)) <= set(targets)


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    in_readme = re.search(r"version = \{(\S+)\}", (ROOT / "README.md").read_text())
    assert citation["version"] == latest[1] == in_readme[1] == cmarr_jax.__version__


def test_the_paper_is_cited_alike():
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    bibtex = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    authors = [f"{person['given-names']} {person['family-names']}" for person in paper["authors"]]
    assert re.search(r"author = \{(.*?)\}", bibtex)[1].split(" and ") == authors
    assert re.search(r"title = \{(.*?)\}", bibtex)[1] == paper["title"]
    assert paper["identifiers"][0]["value"].endswith(re.search(r"eprint = \{(.*?)\}", bibtex)[1])


@pytest.mark.parametrize("template", [path for path in TEMPLATES if path.name != "config.yml"], ids=names)
def test_issue_templates_have_what_github_asks_for(template):
    form = yaml.safe_load(template.read_text())
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len({*ids})
    for part in form["body"]:
        assert part["type"] in ("input", "textarea")
        assert part["attributes"]["label"]


def test_hooks_are_what_make_check_runs():
    [repo] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in repo["hooks"]}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    lines = {
        line.removeprefix("\t$(VENV)/bin/").replace(" --check", "").removesuffix(" .") for line in recipe.splitlines()
    }
    assert hooks == lines
