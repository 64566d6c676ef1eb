# Without a target, `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help demo test e2e image bench lint count deny generate ci

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: ## Run the webhooks with a sample registry, then wait for requests by curl (DEMO_ONCE=1: exit)
	@cargo build --locked --quiet --bin layerpin --example demo
	@cargo run --locked --quiet --example demo

test: ## Install the tools that tests need, and run all tests
	@tests/packages.sh docker-registry:docker-registry skopeo:skopeo htpasswd:apache2-utils buildah:buildah ip:iproute2
	@tests/printed.sh test cargo test --locked --workspace

e2e: ## Test the release binary with a real Kubernetes API server (CRDS=FOLDER: use other CRDs)
	@folder=$$(tests/e2e/tools.sh) && echo "API server from $$folder"
	cargo build --locked --release --bin layerpin
	$(if $(CRDS),LAYERPIN_E2E_CRDS="$(abspath $(CRDS))" )LAYERPIN_E2E_PROGRAM="$$(realpath "$${CARGO_TARGET_DIR:-target}/release/layerpin")" \
		tests/printed.sh e2e cargo test --locked --test e2e

IMAGE ?= localhost/layerpin
image: ## Build the container image (IMAGE=NAME:TAG; more settings in deploy/image.sh)
	@deploy/image.sh "$(IMAGE)"

bench: ## Measure speed and memory of the release binary (BENCH_REVIEWS=N, BENCH_REFERENCES=N: instead of a million)
	@tests/packages.sh wrk:wrk valgrind:valgrind
	@missed=0; for bench in road instructions registry lineage payload files cluster; do \
		nice cargo bench --locked --quiet --bench $$bench || missed=1; \
	done; exit $$missed

lint: ## Check the format, clippy, type names and doc comments; warnings are errors
	cargo fmt --all --check
	tests/type_names.sh
	cargo clippy --locked --workspace --all-targets --test e2e --test printed -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

count: ## Print the lines of code of src by folder, without tests, comments and blank lines
	@tests/count.sh

deny: ## Check dependencies for bans, licences and advisories
	@.ci/deny

generate: ## Write the generated files
	LAYERPIN_GENERATE=1 cargo test --locked --quiet --test generated

ci: ## Run everything that CI runs
	@.ci/run
