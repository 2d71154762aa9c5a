.DEFAULT_GOAL := help
.PHONY: help setup test test-localstack lint matrix faults mutants fuzz types demo bench profile infra image-check lambda

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Fetch PostgreSQL 18 and the client tools into a cache outside the repository
	@scripts/fetch-postgres

demo: ## AWS and two servers on this machine: from check to proof, alarm and state machine, live (KEEP=1 leaves it running)
	@scripts/fetch-postgres 16 18
	@scripts/fetch-emulator
	@echo "building pgstream-aws and the demo (a few minutes the first time)"
	@cargo build --locked -p pgstream-aws -p slot-monitor --bin pgstream-aws --bin slot-monitor --example demo
	@KEEP="$(KEEP)" cargo run --locked -q -p pgstream-aws --example demo

lint: ## Formatting and clippy
	@scripts/step format cargo fmt --all --check
	@scripts/step clippy cargo clippy --locked --workspace --all-targets -- -D warnings

# Nothing is built twice: nextest builds the binary that the end-to-end tests run.
test: lint ## Everything that CI checks
	@scripts/step servers scripts/fetch-postgres all
	@scripts/step emulator scripts/fetch-emulator
	@scripts/step dependencies scripts/check-dependencies
	@scripts/step docs scripts/check-docs
	@scripts/step infra scripts/check-infra
	@scripts/step tests cargo nextest run --locked --workspace --all-targets
	@scripts/step doctests cargo test --locked --workspace --doc --quiet
	@scripts/step documentation env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@scripts/step matrix scripts/matrix

# The port is LocalStack's own; LOCALSTACK_PORT moves it.
test-localstack: ## The end-to-end tests with LocalStack in place of ministack (needs docker with compose)
	@scripts/fetch-postgres all
	@docker compose --file localstack/compose.yaml up --detach --wait localstack && \
		AWS_ENDPOINT_URL="http://127.0.0.1:$${LOCALSTACK_PORT:-4566}" \
		scripts/step tests cargo nextest run --locked --workspace --bins --test e2e; \
		code=$$?; docker compose --file localstack/compose.yaml down --volumes; exit $$code

matrix: ## The matrix_* tests from each PostgreSQL version to the newest
	@scripts/matrix

infra: ## The templates: cfn-lint, checkov, and what they must agree on with the rest
	@scripts/check-infra --checkov

image-check: ## The container image, built and tried without a container engine (needs root on Debian or Ubuntu)
	@echo "building with optimisations (several minutes the first time)"
	@cargo build --locked --release -q -p pgstream-aws --bin pgstream-aws
	@scripts/check-image

ARCH ?= arm64
lambda: ## The zip file of the slot monitor for ARCH=arm64 (or x86_64), which Lambda's glibc runs
	@scripts/lambda-zip $(ARCH)

faults: ## Faults at random under load: N=1000, SEED= replays (PGSTREAM_TEST_SOURCE_MAJOR and _TARGET_MAJOR choose versions)
	@scripts/fetch-postgres all
	@scripts/faults "$(or $(N),1000)" "$(SEED)"

mutants: ## Break one guarantee after the other; a test must notice each (ten minutes; ONLY="no_lock no_fence" for some)
	@scripts/fetch-postgres all
	@scripts/mutants $(ONLY)

bench: setup ## How fast, beside what else does it, into docs/benchmarks.md (PARTS="backlog copy" for some parts)
	@echo "building with optimisations (several minutes the first time)"
	@cargo build --locked --release -q -p pgstream-aws --bin pgstream-aws
	@cargo run --locked --release -q -p pgstream-bench -- $(PARTS)

profile: setup ## Flame graphs of a copy and of a backlog, into docs/benchmarks (needs perf)
	@echo "building with optimisations and symbols (several minutes the first time)"
	@cargo build --locked --profile profiling -q -p pgstream-aws -p pgstream-bench --bin pgstream-aws --bin pgstream-bench
	@target/profiling/pgstream-bench profile

SECONDS ?= 60
fuzz: ## Each fuzz target for SECONDS=60 (needs cargo-fuzz and the nightly toolchain)
	@scripts/fuzz $(SECONDS) $(TARGETS)

PAIRS ?= 18:18 13:18 15:17
types: ## Round trips of every type between versions (PAIRS="18:18 13:18 15:17")
	@for pair in $(PAIRS); do \
		PGSTREAM_TEST_SOURCE_MAJOR="$${pair%:*}" PGSTREAM_TEST_TARGET_MAJOR="$${pair#*:}" \
		scripts/step "types $$pair" cargo nextest run --locked -p pgstream-engine --test stream -E 'test(round_trip)' || exit 1; \
	done
