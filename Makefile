# What people do with this tree. Everything is a plain cargo command or a script in .ci; this only gives it a name.

HALITE = cargo run --quiet --release --locked --package halite --bin halite --

.DEFAULT_GOAL := help
.PHONY: help demo bench soak test fmt clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Kill the primary of three nodes under load and check that nothing is lost [DB=FILE: with a copy of it]
	@$(HALITE) demo $(if $(DB),--db '$(DB)') $(DEMO_FLAGS)

bench: build ## Measure inserts, reads and takeover on this machine [BENCH_FLAGS='...']
	@$(HALITE) bench $(BENCH_FLAGS)

soak: ## Faults of every kind at random under load, until stopped or a check fails [DURATION=20m] [HALITE_SEED=n repeats one]
	@.ci/setup test
	@cargo build --release --locked --workspace --all-targets
	@HALITE_DURATION=$(or $(DURATION),forever) cargo test --release --locked --workspace --test it -- --nocapture faults_of_every_kind

test: ## Everything that has to hold before a change lands
	@.ci/test

fmt: ## Format the code
	@cargo fmt --all

clean: ## Remove everything that was built
	@cargo clean

.PHONY: build
build:
	@.ci/setup
	@cargo build --release --locked --package halite --bin halite
