# Included by the Makefile.
.PHONY: bench bench-peers

# What judging costs: the check suite over TPC-H with what was planted in it, and every commit of histories.
bench:
	$(CARGO) bench --locked --profile dist

# The same suite in DuckDB and Polars, side by side. The program is built as `make bench` builds it.
bench-peers:
	$(CARGO) bench --locked --profile dist --no-run
	benches/peers.sh
