# The verbs of the project. Needs: Python 3.11 or newer, make, git. Everything else goes into .venv.

# 3.12 and 3.11 first: every dependency has a ready-made wheel for them, so no C compiler is needed.
PYTHONS ?= python3.12 python3.11 python3.13 python3.14 python3
PYENV   := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
VENV    := .venv
BIN     := $(VENV)/bin
# xdist workers; the scenarios spend their time waiting for processes, but each of those wants a core now and then.
UNIT_JOBS     ?= auto
SCENARIO_JOBS ?= 3
# For single tests: make test ARGS="-k chat -x"
ARGS ?=

# pytest ends with 5 when a selection leaves nothing to run: right when ARGS selected, a failure otherwise.
NONE_LEFT := $(if $(ARGS),5,never)

# Renders the charts in tests. Another one: HOLDFAST_HELM, or one in PATH.
HELM         := .tools/helm
HELM_VERSION := v3.19.0
# Judges and runs what they render, in `make test-long`.
KUBE         := .tools/kubernetes
KUBE_VERSION := 1.34.4
DNS_VERSION  := 1.12.4
NET_VERSION  := 2.1.0
GO           ?= $(shell command -v go 2>/dev/null || ls /usr/local/go/bin/go /usr/lib/go-1.2[1-9]/bin/go 2>/dev/null | tail -1)

# Where `make run` and `make run-xmpp` listen.
EDGE_PORT    ?= 7999
CONTROL_PORT ?= 5561
CHAT_PORT    ?= 8000

# --timeout is per test: one that hangs fails with every thread's stack instead of using up the whole run.
PYTEST := $(BIN)/python -m pytest --timeout 300

.DEFAULT_GOAL := help
.PHONY: help run run-xmpp test test-long lint format bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run-ready  ## edge on an embedded Redis with the example chat behind it; prints the URL
	@exec $(BIN)/python -m backend_sdk.examples.chat.run \
		--edge-port $(EDGE_PORT) --control-port $(CONTROL_PORT) --chat-port $(CHAT_PORT)

run-xmpp: $(VENV)/.run-ready  ## a web chat for XMPP, with a Prosody of its own; prints the URL
	@exec $(BIN)/python -m backend_sdk.examples.xmpp_chat.run \
		--edge-port $(EDGE_PORT) --control-port $(CONTROL_PORT) --chat-port $(CHAT_PORT) $(ARGS)

# Every stage runs even when an earlier one failed, so that one run tells the whole story.
test: $(VENV)/.dev-ready  ## everything CI runs: lint, unit tests, charts, scenarios on real processes, Autobahn, browser
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	echo "== unit and contract tests"; \
	$(PYTEST) -n $(UNIT_JOBS) -m "not scenario and not autobahn and not browser and not chart and not long" $(ARGS) \
		|| [ $$? = $(NONE_LEFT) ] || status=1; \
	echo "== charts"; \
	$(MAKE) --no-print-directory $(HELM) || echo "make: no helm; tests of charts will say so" >&2; \
	$(PYTEST) -n $(UNIT_JOBS) -m "chart and not long" $(ARGS) \
		|| [ $$? = $(NONE_LEFT) ] || status=1; \
	echo "== scenarios on real processes, Autobahn"; \
	$(PYTEST) -n $(SCENARIO_JOBS) --dist worksteal --durations 10 -m "(scenario or autobahn) and not browser and not long" $(ARGS) \
		|| [ $$? = $(NONE_LEFT) ] || status=1; \
	echo "== browser"; \
	$(PYTEST) -m "browser and not long" $(ARGS) \
		|| [ $$? = $(NONE_LEFT) ] || status=1; \
	exit $$status

test-long: $(VENV)/.dev-ready  ## tests that take minutes each, or need XMPP servers
	@$(BIN)/python -m pytest --timeout 3600 -m long $(ARGS)

lint: $(VENV)/.dev-ready  ## ruff, mypy --strict, import-linter
	@status=0; \
	for check in "ruff check ." "ruff format --check ." "mypy" "lint-imports"; do \
		echo "== $$check"; $(BIN)/$$check || status=1; \
	done; \
	exit $$status

format: $(VENV)/.dev-ready  ## ruff's formatter and safe fixes
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.bench-ready  ## Holdfast beside nginx, Nchan, Pushpin and slixmpp: tables, JSON, plots
	@exec $(BIN)/python -m benchmarks $(ARGS)

$(HELM): Makefile
	@if command -v helm >/dev/null; then mkdir -p .tools && ln -sf "$$(command -v helm)" $@; exit; fi; \
	if [ -z "$(GO)" ]; then echo "The tests of charts need helm, or Go to build it (Debian: apt install golang-go)." >&2; exit 1; fi; \
	echo "Building helm $(HELM_VERSION); this takes a few minutes, once"; \
	GOBIN=$(CURDIR)/.tools GOFLAGS=-mod=mod $(GO) install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION) && touch $@

$(KUBE): tests/support/build_kubernetes.sh
	@if [ -z "$(GO)" ]; then echo "Building Kubernetes needs Go (Debian: apt install golang-go)." >&2; exit 1; fi; \
	echo "Building Kubernetes $(KUBE_VERSION); this takes ten minutes, once"; \
	$< "$(GO)" $(KUBE_VERSION) $(DNS_VERSION) $(NET_VERSION) $@ && touch $@

clean:  ## remove what the verbs above made
	rm -rf $(VENV) .tools .venv-autobahn .node .data build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find edge backend_sdk tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment: made once, installed again only when pyproject.toml has changed -----------------------

$(VENV)/.run-ready:   EXTRA := edge
$(VENV)/.dev-ready:   EXTRA := dev
$(VENV)/.bench-ready: EXTRA := bench
$(VENV)/.run-ready $(VENV)/.dev-ready $(VENV)/.bench-ready: pyproject.toml
	@set -e; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		for candidate in $(PYTHONS) $(PYENV)/3.12.*/bin/python $(PYENV)/3.11.*/bin/python $(PYENV)/3.1*.*/bin/python; do \
			if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
			then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "Holdfast needs Python 3.11 or newer with its venv module, and found none of: $(PYTHONS)." >&2; \
			echo "Debian and Ubuntu: apt install python3 python3-venv. Another place: make PYTHONS=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$($$python -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
		$$python -m venv --clear $(VENV); \
	fi; \
	echo "Installing Holdfast with [$(EXTRA)] into $(VENV)"; \
	if ! $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA)]'; then \
		echo "Installing failed; pip's reason is above. Where a package has no wheel for this Python, a C compiler" >&2; \
		echo "and make are needed (Debian: apt install build-essential), or Python 3.11 or 3.12." >&2; \
		exit 1; \
	fi; \
	touch $@
