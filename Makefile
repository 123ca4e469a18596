# `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CACHE_DIR := $(abspath $(or $(CACHE_DIR),.cache))
export CACHE_DIR

# Independent clients for the tests and the benchmark (librdkafka, fastavro), in a virtual environment.
PYTHON := $(CACHE_DIR)/venv/bin/python
PYTHON_READY := $(CACHE_DIR)/venv/ready

# Runs a command with BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL: those of the environment, or those of a fresh broker and
# registry on loopback.
WITH_KAFKA := $(if $(BOOTSTRAP_SERVERS),env,tests/kafka/kafka.py run)
# The same for browser runs on release builds.
WITH_RELEASE := ORDER_CONSOLE=$(abspath $(TARGET_DIR))/release/order-console \
	ORDER_PROCESSOR=$(abspath $(TARGET_DIR))/release/order-processor \
	ORDER_GENERATOR=$(abspath $(TARGET_DIR))/release/order-generator CARGO_TARGET_DIR=$(abspath $(TARGET_DIR)) \
	tests/kafka/kafka.py run

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run a broker, a registry, a generator, two processors and the dashboard in this terminal
	cargo build -p order-generator -p order-processor -p order-console -p embedded-kafka
	exec $(TARGET_DIR)/debug/embedded-kafka demo \
		--generator $(TARGET_DIR)/debug/order-generator --processor $(TARGET_DIR)/debug/order-processor \
		--console $(TARGET_DIR)/debug/order-console

# The container stack. Compose takes its settings from the shell and from .env: ORDER_RATE=100 make up
COMPOSE := docker compose
KAFKA_TOOL := $(COMPOSE) exec kafka /opt/kafka/bin
# The group's name comes from the same place as compose's.
GROUP_TOOL = $(KAFKA_TOOL)/kafka-consumer-groups.sh --bootstrap-server localhost:9092 --group \
	$(or $(shell $(COMPOSE) config --environment | sed -n 's/^CONSUMER_GROUP_ID=//p'),order-processor-group)

# The stack's dashboard needs a token to change anything. `make up` creates it once, unless the environment sets a token or
# makes the dashboard read-only.
TOKEN_FILE := .dashboard-token
CHOSEN := $(COMPOSE) config --environment | grep --quiet --extended-regexp '^DASHBOARD_(TOKEN|READ_TOKEN|READ_ONLY)=.'

.PHONY: up
up: engine ## Build and start the container stack and wait until it is ready
	@$(CHOSEN) || [ -s $(TOKEN_FILE) ] || { \
		(umask 077 && head -c 18 /dev/urandom | base64 >$(TOKEN_FILE)); \
		echo "A new token for the dashboard: $$(cat $(TOKEN_FILE))"; }
	@$(CHOSEN) || export DASHBOARD_READ_ONLY=false DASHBOARD_TOKEN="$$(cat $(TOKEN_FILE))"; \
		echo '$(COMPOSE) up --detach --build'; $(COMPOSE) up --detach --build
	@deploy/wait.sh
	@echo 'Next: make logs (averages), make stats (numbers), make scale N=3 (replicas), make down (stop).'
	@echo "The dashboard: http://$$($(COMPOSE) port dashboard 8000)"
	@$(CHOSEN) || echo "Its token is in $(TOKEN_FILE)."

.PHONY: logs
logs: engine ## Follow the logs of the generator and the processors
	$(COMPOSE) logs --follow --tail 20 generator processor

.PHONY: scale
scale: engine ## Run N processors: make scale N=3
	@[[ '$(N)' =~ ^[0-9]+$$ ]] || { echo 'N is missing: make scale N=3' >&2; exit 1; }
	$(COMPOSE) up --detach --no-recreate --scale processor=$(N) processor
	@deploy/wait.sh

.PHONY: ps
ps: engine ## List the containers of the stack
	$(COMPOSE) ps --all

.PHONY: stats
stats: engine ## Print the group's numbers: make stats ARGS=--watch
	$(COMPOSE) run --rm --no-deps dashboard stats $(ARGS)

.PHONY: dlq
dlq: engine ## Work on the dead-letter queue: make dlq ARGS=list
	$(COMPOSE) run --rm --no-deps dashboard dlq $(ARGS)

.PHONY: top
top: engine ## Show the group in this terminal, with keys to pause and resume it
	$(COMPOSE) run --rm --no-deps --env USER --env NO_COLOR dashboard top $(ARGS)

.PHONY: control
control: engine ## Show, pause or resume services: make control ARGS='pause processor'
	$(COMPOSE) run --rm --no-deps dashboard control $(ARGS)

.PHONY: topics
topics: engine ## Describe the topics
	$(KAFKA_TOOL)/kafka-topics.sh --bootstrap-server localhost:9092 --describe --exclude-internal

.PHONY: lag
lag: engine ## Describe the consumer group: members, offsets, lag
	$(GROUP_TOOL) --describe

.PHONY: reset
reset: engine ## Count every order again from the earliest; asks first
	@read -r -p 'Stop the processors, drop the numbers and count all orders again? [y/N] ' answer; \
		if [[ $$answer != [yY]* ]]; then echo 'Nothing was changed.'; exit; fi; \
		set -x; \
		$(COMPOSE) stop processor; \
		$(GROUP_TOOL) --reset-offsets --to-earliest --all-topics --execute; \
		$(COMPOSE) start processor

.PHONY: down
down: engine ## Stop and remove the containers; keep the broker's volume
	$(COMPOSE) --profile '*' down

.PHONY: clean
clean: engine ## Stop and remove the containers and the broker's volume
	$(COMPOSE) --profile '*' down --volumes

.PHONY: images
images: build-images sbom ## Build the three images and write their bills of materials; needs cargo

.PHONY: build-images
build-images: engine
	$(COMPOSE) build
	@docker images --filter dangling=false --filter label=org.opencontainers.image.title --format 'table {{.Repository}}:{{.Tag}}\t{{.Size}}'

CYCLONEDX_VERSION := 0.5.9
CYCLONEDX := $(CACHE_DIR)/cargo-cyclonedx-$(CYCLONEDX_VERSION)/bin/cargo-cyclonedx

# Built without much optimisation, as are all tools that run once.
INSTALL_TOOL := cargo install --locked --config profile.release.opt-level=1 --config profile.release.codegen-units=16 \
	--config profile.release.lto=false

$(CYCLONEDX):
	$(INSTALL_TOOL) cargo-cyclonedx --version $(CYCLONEDX_VERSION) --root $(CACHE_DIR)/cargo-cyclonedx-$(CYCLONEDX_VERSION)

# The tool writes a file beside each manifest of the workspace, with this folder's path in it.
.PHONY: sbom
sbom: $(CYCLONEDX) ## Write the bill of materials of each image, in CycloneDX, to target/sbom
	$(CYCLONEDX) cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps \
		--target "$$(uname -m)-unknown-linux-musl"
	@mkdir -p $(TARGET_DIR)/sbom
	@for binary in order-generator order-processor order-console; do \
		sed 's|$(CURDIR)/||g' services/$$binary/$${binary}_bin.cdx.json >$(TARGET_DIR)/sbom/$$binary.cdx.json; done
	@find services shared tests -name '*_bin.cdx.json' -delete
	@ls $(TARGET_DIR)/sbom/*

.PHONY: engine
engine:
	@docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 || { \
		echo 'This needs a running Docker engine with Compose v2; `docker info` reports the problem.'; \
		echo '`make demo` runs everything and needs only cargo.'; exit 1; } >&2

# Most tests of the suites wait, so more of them run at once than there are CPUs.
TEST_THREADS := $(shell n=$$(nproc); echo $$((n < 4 ? 4 : n)))
test test-kafka: export RUST_TEST_THREADS ?= $(TEST_THREADS)

.PHONY: test
test: ## Run every test that needs only cargo
	cargo build --workspace
	TEST_PLATFORM=embedded cargo test --workspace

# Suites that damage the broker or need other broker properties than the rest. All are built once, with the same features.
WITH_BROKER = KAFKA_PROPERTIES='$(1)' TEST_PLATFORM=kafka TEST_PYTHON=$(abspath $(PYTHON)) \
	tests/kafka/kafka.py run cargo test --workspace --features end-to-end/own-broker

.PHONY: test-kafka
test-kafka: $(PYTHON_READY) ## Run the suites on a real Kafka and registry: BOOTSTRAP_SERVERS, or their own on loopback
	cargo build --workspace
	$(PYTHON) tests/outsiders/oracle.py self-check
	TEST_PLATFORM=kafka TEST_PYTHON=$(abspath $(PYTHON)) $(WITH_KAFKA) \
		cargo test --workspace --features end-to-end/own-broker --test suites
	$(if $(BOOTSTRAP_SERVERS),@echo 'not run: suites that need their own broker (disk fetch_limits metadata_limits idle_connections cluster chaos)',\
		$(call WITH_BROKER,fetch.max.bytes=1000000 offset.metadata.max.bytes=2048) \
			--test own_broker --test suites -- disk:: fetch_limits:: metadata_limits:: && \
		$(call WITH_BROKER,connections.max.idle.ms=2000) --test suites -- idle_connections:: && \
		KAFKA_BROKERS=3 $(call WITH_BROKER) --test own_broker -- cluster:: chaos::)

.PHONY: chaos
chaos: $(PYTHON_READY) ## Cause random faults of three real brokers and the services: FAULTS=100 ORDERS=200000 SEED=1 KINDS=kill-broker,two-away
	cargo build --workspace
	CHAOS_FAULTS=$(or $(FAULTS),100) CHAOS_ORDERS=$(or $(ORDERS),200000) CHAOS_SEED=$(SEED) CHAOS_KINDS=$(KINDS) \
		KAFKA_BROKERS=3 $(call WITH_BROKER) --test own_broker -- chaos:: --nocapture

.PHONY: test-otlp
test-otlp: ## Run the suite of exported spans, on services built with the feature otlp
	cargo build --workspace --features end-to-end/otlp
	TEST_PLATFORM=embedded cargo test --workspace --features end-to-end/otlp --test otlp

# One test for each decoder.
FUZZ := cargo test --quiet --workspace --test fuzz --

.PHONY: fuzz
fuzz: ## Feed mutated bytes to every decoder of foreign bytes, two at a time, SECONDS=600 for each
	$(FUZZ) --list --format terse | sed -n 's/: test$$//p' | FUZZ_SECONDS=$(or $(SECONDS),60) \
		xargs --max-procs=2 --replace $(FUZZ) --exact {} --nocapture

.PHONY: test-stack
test-stack: build-images $(PYTHON_READY) ## Run the suite of the container stack on a Docker engine
	cargo build --workspace
	TEST_PYTHON=$(abspath $(PYTHON)) cargo test --workspace --features end-to-end/engine --test stack -- --test-threads=1

.PHONY: test-browser
test-browser: $(PYTHON_READY) ## Drive the dashboard in Chromium on a real Kafka; needs Node.js 20, Chromium and kcat
	cargo build --workspace
	npm ci --prefix tests/browser --no-audit --no-fund
	CARGO_TARGET_DIR=$(abspath $(TARGET_DIR)) TEST_PYTHON=$(abspath $(PYTHON)) tests/kafka/kafka.py run \
		npm test --prefix tests/browser

.PHONY: screenshots
screenshots: $(PYTHON_READY) ## Write docs/screenshots; needs what test-browser needs
	cargo build --release -p order-generator -p order-processor -p order-console
	npm ci --prefix tests/browser --no-audit --no-fund
	$(WITH_RELEASE) npm run screenshots --prefix tests/browser

.PHONY: bench
bench: $(PYTHON_READY) ## Measure the services and their peers on a real Kafka: ORDERS=10000000 RUNS=5 IMAGE=order-processor
	cargo build --release -p order-generator -p order-processor
	cargo build --release --manifest-path bench/peers/rdkafka/Cargo.toml --target-dir $(TARGET_DIR)/peers
	$(if $(IMAGE),container=$$(docker create $(IMAGE)) && \
		docker cp --quiet $$container:/bin/order-processor $(TARGET_DIR)/image-processor && docker rm $$container)
	$(WITH_KAFKA) $(PYTHON) bench/bench.py --target-dir $(TARGET_DIR) \
		$(if $(IMAGE),--image-binary $(TARGET_DIR)/image-processor)

.PHONY: bench-failures
bench-failures: $(PYTHON_READY) ## Measure the cost of failures for orders that do not fail
	cargo build --release -p order-generator -p order-processor
	$(WITH_KAFKA) $(PYTHON) bench/failures.py --target-dir $(TARGET_DIR)

.PHONY: bench-page
bench-page: $(PYTHON_READY) ## Measure the cost of an open dashboard page; needs what test-browser needs
	cargo build --release -p order-generator -p order-processor -p order-console
	npm ci --prefix tests/browser --no-audit --no-fund
	$(WITH_RELEASE) npm run cost --prefix tests/browser

.PHONY: check
check: ## Check format, lints, documentation and words
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
	tests/words.py

.PHONY: documents
documents: ## Write the generated tables of docs/configuration.md
	UPDATE_DOCUMENTS=1 cargo test --workspace --test documents the_configuration_page_lists_every_setting

# The installed cargo-deny, or one that is built once with little optimisation.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(or $(shell command -v cargo-deny),$(CACHE_DIR)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny)

$(CACHE_DIR)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny:
	$(INSTALL_TOOL) cargo-deny --version $(CARGO_DENY_VERSION) --root $(CACHE_DIR)/cargo-deny-$(CARGO_DENY_VERSION)

.PHONY: check-dependencies
check-dependencies: $(CARGO_DENY) ## Check the licences, sources and bans of deny.toml
	$(CARGO_DENY) check --hide-inclusion-graph bans licenses sources

.PHONY: check-advisories
check-advisories: $(CARGO_DENY) ## Check the dependencies against RustSec's advisories; needs GitHub
	$(CARGO_DENY) check advisories

ACTIONLINT_VERSION := 1.7.12
ACTIONLINT := $(CACHE_DIR)/actionlint-$(ACTIONLINT_VERSION)/actionlint

$(ACTIONLINT):
	GOBIN=$(@D) go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)

.PHONY: check-workflows
check-workflows: $(ACTIONLINT) ## Check .github/workflows with actionlint; needs Go
	$(ACTIONLINT)

.PHONY: check-kubernetes
check-kubernetes: ## Check deploy/kubernetes against schemas and binaries; needs Go
	cargo build --workspace
	tests/kubernetes/check.py --binaries $(TARGET_DIR)/debug

# The metrics of a real run.
METRICS := $(CACHE_DIR)/metrics

.PHONY: check-observability
check-observability: ## Check deploy/observability with Prometheus' tools and the binaries' metrics; needs Go
	cargo build --workspace
	$(WITH_KAFKA) tests/observability/scrape.py --binaries $(TARGET_DIR)/debug --out $(METRICS)
	tests/observability/check.py --metrics \
		$(foreach service,generator processor dashboard,$(service)=$(METRICS)/$(service).txt)

$(PYTHON_READY): tests/outsiders/requirements.txt
	python3 -m venv $(CACHE_DIR)/venv
	$(PYTHON) -m pip install --quiet --requirement $<
	touch $@
