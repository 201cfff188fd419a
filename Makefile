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

soak: build ## Run the demo again and again, until a check fails [N=100 times]
	@for run in $$(seq 1 $(or $(N),100)); do \
		echo "run $$run of $(or $(N),100)"; \
		$(HALITE) demo $(if $(DB),--db '$(DB)') $(DEMO_FLAGS) || exit 1; \
	done

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
