"""The hook that makes the repository's pages a site. `make docs` builds the whole site, strictly."""

import importlib.util
from pathlib import Path

import pytest

for module in ("latex2mathml", "mkdocs", "ipykernel"):
    pytest.importorskip(module, reason="needs the extra docs")
nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "link", "translated"),
    [
        ("README.md", "[a](docs/devices.md)", "[a](devices.md)"),
        ("README.md", "[a](data_prep/README.md#b)", "[a](data_prep/README.md#b)"),
        ("README.md", "![a](docs/figures/conditions-uar.svg)", "![a](figures/conditions-uar.svg)"),
        ("docs/devices.md", "[a](../data_prep/README.md)", "[a](data_prep/README.md)"),
        ("docs/index.md", "[a](../README.md#b)", "[a](project.md#b)"),
        ("docs/index.md", "[a](quickstart.ipynb)", "[a](quickstart.md)"),
        ("data_prep/corpora/README.md", "[a](../../README.md)", "[a](../../project.md)"),
        ("data_prep/README.md", "[a](../docs/faults.md)", "[a](../faults.md)"),
        ("README.md", "[a](cmarr_jax/config.py)", "`a`"),
        ("README.md", "[`a`](cmarr_jax/config.py)", "`a`"),
        ("README.md", "[a](no_such_file.py)", "[a](no_such_file.py)"),
        ("README.md", "[a](https://x.org/README.md), [b](#c)", "[a](https://x.org/README.md), [b](#c)"),
        ("README.md", "`[a](docs/devices.md)`", "`[a](docs/devices.md)`"),
        ("README.md", "```sh\n[a](docs/devices.md)\n```", "```sh\n[a](docs/devices.md)\n```"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(hooks, path, link, translated):
    assert hooks.translate(link, path) == translated


def test_a_list_that_follows_a_paragraph_is_a_list(hooks):
    assert hooks.translate("Text:\n- a\n- b\n  c\n- d\n", "README.md") == "Text:\n\n- a\n- b\n  c\n- d\n"
    assert hooks.translate("**Text**\n1. a\n2. b\n", "README.md") == "**Text**\n\n1. a\n2. b\n"
    assert hooks.translate("```\nText\n- a\n```\n", "README.md") == "```\nText\n- a\n```\n"


def test_a_diagram_becomes_the_table_of_its_arrows(hooks):
    text = '```mermaid\nflowchart LR\n  A["x y"] -->|f, g| B["z"]\n  B --> A\n```\n'
    assert hooks.translate(text, "README.md") == (
        "| from | by | to |\n|---|---|---|\n| x y | `f`, `g` | z |\n| z |  | x y |\n"
    )


def test_formulas_become_mathml(hooks):
    page = hooks.on_page_content('<p><span class="arithmatex">\\(a &lt; b^2\\)</span></p>')
    assert page.startswith('<p><span class="formula"><math')
    assert "<msup>" in page
    assert "&#x0003C;" in page or "&lt;" in page
    assert 'display="block"' in hooks.on_page_content('<div class="arithmatex">\\[a\\]</div>')


def test_every_page_has_one_address(hooks):
    pages = list(hooks.ELSEWHERE.values())
    assert all((ROOT / path).exists() for path in pages)
    assert [hooks.address_of(path) for path in pages] == list(hooks.ELSEWHERE)
    assert hooks.address_of("docs/site_hooks.py") is None


def test_a_notebook_becomes_a_page_with_what_it_prints(hooks, tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("x = 1\nprint(x + 1)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert hooks.notebook_text(tmp_path / "a.ipynb") == (
        "# Title\n\n```python\nx = 1\nprint(x + 1)\n```\n\n```text\n2\n```"
    )
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "b.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        hooks.notebook_text(tmp_path / "b.ipynb")
