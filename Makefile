# make reproduce   trains and prints the conditions table (ARGS="--seeds 3 --data FILE.npz" to change what is run)
# make test        runs the test suite; ARGS="tests/test_folds.py -k session" runs a part of it
# make test-fast   losses, metrics, folds, batches, archives: what trains nothing
# make test-slow   what makes environments of its own from the package index, or takes minutes
# make check       formatting, lint, types, the pages (their links, code and metadata), and what `make docs` does
# make docs        builds the pages as a site, build/site/index.html, and runs the quickstart notebook for it
# Each makes its own environment first; a second call does not install again. PYTHON picks the interpreter.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DEFAULT_TAG := $(shell python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := $(if $(filter $(TAG),$(DEFAULT_TAG)),.venv,.venv-$(TAG))
ARGS ?=
INSTALL = $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt

FAST = $(addprefix tests/test_,$(addsuffix .py,availability batching corpus folds losses_api \
  losses_contrastive losses_gaussian losses_import losses_info_nce losses_reconstruct manifest metrics normalizer pages))

.PHONY: reproduce test test-fast test-slow check docs clean

reproduce: $(VENV)/.installed
	$(VENV)/bin/python -m experiments.reproduce $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(FAST) $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

check: $(VENV)/.installed-dev docs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest --noconftest tests/test_pages.py

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, %s is %s" % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[experiments]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[experiments,dev,extract,corpora,docs]'
	touch $@

clean:
	rm -rf .venv .venv-* build *.egg-info
