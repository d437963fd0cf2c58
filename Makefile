# gridgov: `make` lists what it can do. Everything runs in a virtual environment of this checkout (.venv).
# Set-up is done by deploy/venv.sh (PYTHON=... names the interpreter) and deploy/packages.sh.
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# One process more than cores, as many tests wait; the tests of a file stay together, for they share what they start.
PARALLEL := -n $(shell expr $$(nproc) + 1) --dist loadfile

.DEFAULT_GOAL := help
SITE := service/docs/site/.done # the pages that are served at /docs/zh and /docs/en

.PHONY: help run docs demo watch test obs look registry units faults edge outage bench newcomer unit check lint format lock generate wheel clean always

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

.venv/.done: always
	@sh deploy/venv.sh $(MAKECMDGOALS)

$(SITE): $(shell find deploy/docs deploy/runbooks deploy/prometheus/rules schemas/README*.md README*.md service/config.py schemas/promise.py -type f) | .venv/.done
	$(BIN)/python -m deploy.docs

docs: $(SITE) ## Build the guide into service/docs/site, from where it is served at /docs

run: $(SITE) ## Start everything here: broker, web, relay (Ctrl-C stops; data in ./var)
	@sh deploy/run.sh

demo: $(SITE) ## All of it at 60 times the speed of life: a simulated district, dashboards live in the browser
	@sh deploy/packages.sh demo
	@$(BIN)/python -m deploy.demo

watch: ## A Prometheus beside `make run`, with our rules and alerts
	@sh deploy/packages.sh watch
	@sh deploy/watch.sh

test: $(SITE) ## Run all tests, on a real Kafka and a real Prometheus
	@sh deploy/packages.sh test
	$(BIN)/python -m tests.kubernetes.tools
	$(PYTEST) $(PARALLEL) tests/unit tests/integration tests/system

faults: .venv/.done ## Try every fault, with negative controls (long; as root, or some are left out). make faults FAULTS="--only disk"
	@sh deploy/packages.sh faults
	PATH="$$PATH:/usr/sbin:/sbin" $(BIN)/python -m tests.faults $(FAULTS)

edge: $(SITE) ## Try all that is hostile, malformed, too much or personal, with negative controls. make edge EDGE=--short
	@sh deploy/packages.sh edge
	PATH="$$PATH:/usr/sbin:/sbin" $(BIN)/python -m tests.edge $(EDGE)

outage: .venv/.done ## A broker killed during a replay of 5,000 reports, for a whole minute
	OUTAGE_SECONDS=60 $(PYTEST) tests/system/test_outages.py -k replay --log-cli-level=INFO

bench: .venv/.done ## Measure gridgov beside others, judge the targets (12 min). In 2: make bench BENCH=--short
	@sh deploy/packages.sh bench
	$(BIN)/python -m tests.bench $(BENCH)

newcomer: .venv/.done ## Time a newcomer's way: clone, make demo, figures that move in a browser (ends all of it)
	@sh deploy/packages.sh newcomer
	$(BIN)/python -m tests.bench.newcomer $(NEWCOMER)

look: .venv/.done ## Draw the dashboards with Grafana's components into var/look
	@sh deploy/packages.sh look
	$(BIN)/python -m tests.look $(LOOK)

registry: .venv/.done ## Try the registry's files on a real schema registry (fetches 160 MB once)
	$(PYTEST) tests/registry

units: .venv/.done ## Try the systemd units under a real systemd of its own (as root)
	$(PYTEST) tests/units

obs: .venv/.done ## Test all of the observability: rules, alerts, dashboards, a real Prometheus and Alertmanager
	@sh deploy/packages.sh obs
	$(PYTEST) tests/unit/test_dashboards.py tests/integration/test_rules.py tests/integration/test_panels.py \
		tests/system/test_alerting.py

unit: $(SITE) ## Run the quick tests only
	$(PYTEST) $(PARALLEL) tests/unit

check: lint unit ## Lint, types, generated files, unit tests: what must be clean before a commit

lint: .venv/.done ## Lint, types, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m schemas.generate --check
	$(BIN)/python -m schemas.compatibility
	$(BIN)/python -m deploy.grafana.dashboards --check
	$(BIN)/python -m deploy.kubernetes --check
	$(BIN)/python -m tests.architecture --check

format: .venv/.done ## Format the code, mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: .venv/.done ## Write anew what is generated: the contract, dashboards, manifests, the picture of the rooms
	$(BIN)/python -m schemas.generate
	$(BIN)/python -m deploy.grafana.dashboards
	$(BIN)/python -m deploy.kubernetes
	$(BIN)/python -m tests.architecture

lock: .venv/.done ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet -o requirements.lock

wheel: $(SITE) ## Build the wheel into dist/
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

clean: ## Remove what was built; ./var, your data, stays
	rm -rf .venv build dist service/docs/site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
