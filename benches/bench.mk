# Included by the Makefile.
.PHONY: bench bench-peers

# What judging costs, and the check suite over TPC-H with what was planted in it.
bench:
	$(CARGO) bench --bench tpch

# The same suite in DuckDB and Polars, side by side.
bench-peers:
	$(CARGO) build --profile dist
	benches/peers.sh
