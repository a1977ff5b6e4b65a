# make reproduce   trains and prints the conditions table (ARGS="--seeds 3 --data FILE.npz" to change what is run)
# make test        runs the test suite
# make check       formatting, lint and types
# Each makes its own environment first; a second call does not install again. PYTHON picks the interpreter.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DEFAULT_TAG := $(shell python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := $(if $(filter $(TAG),$(DEFAULT_TAG)),.venv,.venv-$(TAG))
ARGS ?=
INSTALL = $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt

.PHONY: reproduce test check clean

reproduce: $(VENV)/.installed
	$(VENV)/bin/python -m experiments.reproduce $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, %s is %s" % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[experiments]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[experiments,dev,extract,corpora]'
	touch $@

clean:
	rm -rf .venv .venv-* build *.egg-info
