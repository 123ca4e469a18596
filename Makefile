# `make help` lists what can be made.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CACHE_DIR := $(abspath $(or $(CACHE_DIR),.cache))
export CACHE_DIR

# The outside clients of the tests and the benchmark: librdkafka and fastavro, in an environment of their own.
PYTHON := $(CACHE_DIR)/venv/bin/python
PYTHON_READY := $(CACHE_DIR)/venv/ready

# Starts a command with BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL: those that are set already, or a fresh broker and
# registry on loopback.
WITH_KAFKA := $(if $(BOOTSTRAP_SERVERS),env,tests/kafka/kafka.py run)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run a broker, a registry, a generator and two processors in this terminal; Ctrl-C stops them
	cargo build -p order-generator -p order-processor -p embedded-kafka
	exec $(TARGET_DIR)/debug/embedded-kafka demo \
		--generator $(TARGET_DIR)/debug/order-generator --processor $(TARGET_DIR)/debug/order-processor

.PHONY: test
test: ## Run every test that needs nothing but cargo
	cargo build --workspace
	TEST_PLATFORM=embedded cargo test --workspace

.PHONY: test-kafka
test-kafka: $(PYTHON_READY) ## Run the suites on a real Kafka and registry: BOOTSTRAP_SERVERS, or their own on loopback
	cargo build --workspace
	$(PYTHON) tests/outsiders/oracle.py self-check
	TEST_PLATFORM=kafka TEST_PYTHON=$(abspath $(PYTHON)) $(WITH_KAFKA) \
		cargo test --workspace --features end-to-end/outsiders --test '*'

.PHONY: bench
bench: $(PYTHON_READY) ## Measure both services and their peers on a real Kafka: ORDERS=10000000 RUNS=5
	cargo build --release -p order-generator -p order-processor
	cargo build --release --manifest-path bench/peers/rdkafka/Cargo.toml --target-dir $(TARGET_DIR)/peers
	$(WITH_KAFKA) $(PYTHON) bench/bench.py --target-dir $(TARGET_DIR)

.PHONY: check
check: ## Check format, lints, documentation and, where cargo-deny is installed, the dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
		else echo 'cargo-deny is not installed: licences and advisories of the dependencies were not checked'; fi

$(PYTHON_READY): tests/outsiders/requirements.txt
	python3 -m venv $(CACHE_DIR)/venv
	$(PYTHON) -m pip install --quiet --requirement $<
	touch $@
