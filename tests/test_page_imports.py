"""The names of the library that the pages import; in a file of its own, as test_pages.py imports no JAX."""

import ast
import importlib

from test_pages import PAGES, tokens


def imported(page):
    """Modules and names of the library that the page's Python imports."""
    for fence in [part for part in tokens(page) if part.type == "fence" and part.info == "python"]:
        for node in ast.walk(ast.parse(fence.content, str(page))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cmarr_jax":
                yield from ((node.module, alias.name) for alias in node.names)


def test_what_the_pages_import_is_there():
    found = {one for page in PAGES for one in imported(page)}
    assert len(found) > 20
    for module, name in sorted(found):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
