# firstbad: everything that a developer or a CI job runs. Needs Rust and a C compiler (for zstd); `make test` sees to the rest.

CARGO ?= cargo
DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools

.PHONY: test lint bench fixtures soak deny postgres

# All tests. Some start PostgreSQL servers of their own, reached by sockets in their own directories alone.
test: postgres
	$(CARGO) test --locked

# PostgreSQL's server programs: installed when they are missing and that is possible.
postgres:
	@tests/support/postgres.sh

# Format, clippy, docs and licences; warnings are errors. `--examples` (there are none) makes cargo choose the dependencies' features as for
# `--all-targets`, so that clippy and doc share what they compile of them.
lint: deny
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --lib --examples

# Licences and duplicate sources of dependencies (deny.toml). The tool is installed below target/ when it is missing.
deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --locked check bans licenses sources

# Not optimised: it is built more often than it is run.
$(TOOLS)/bin/cargo-deny:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --debug --root $(TOOLS) --version $(DENY_VERSION) --no-default-features cargo-deny

# Ten times as many random cases as `make test`; FIRSTBAD_SEED=N replays one.
soak:
	FIRSTBAD_CASES=$${FIRSTBAD_CASES:-52500} FIRSTBAD_LIVES=$${FIRSTBAD_LIVES:-21000} \
	FIRSTBAD_LIFTED=$${FIRSTBAD_LIFTED:-17500} FIRSTBAD_DIFFS=$${FIRSTBAD_DIFFS:-60000} \
	FIRSTBAD_ASKED=$${FIRSTBAD_ASKED:-4000} $(CARGO) test --locked --test oracle -- --nocapture

# Rebuilds testdata/shop, byte for byte.
fixtures:
	$(CARGO) run --locked -- fixtures testdata/shop

-include benches/bench.mk
