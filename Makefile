# firstbad: everything that a developer or a CI job runs. Needs Rust and a C compiler (for zstd); the tests also need PostgreSQL.

CARGO ?= cargo
DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools

.PHONY: test lint bench fixtures soak deny postgres

# All tests. Some start a PostgreSQL server of their own and stop it (tests/support/postgres.rs); no running one is touched.
test: postgres
	$(CARGO) test --locked

# PostgreSQL's server programs, installed when they are missing and that is possible.
postgres:
	@if ls "$${FIRSTBAD_PG_BIN:-/nonexistent}"/initdb /usr/lib/postgresql/*/bin/initdb 2>/dev/null | grep -q . \
	    || command -v initdb >/dev/null; then exit 0; fi; \
	install="apt-get install -y --no-install-recommends postgresql"; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then apt-get update && $$install; \
	elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then sudo -n apt-get update && sudo -n $$install; \
	else echo "make test needs PostgreSQL's server programs (initdb, pg_ctl). Install them: apt-get install postgresql," \
	    "apk add postgresql, brew install postgresql; or set FIRSTBAD_PG_BIN to their directory." >&2; exit 1; fi

# Format, clippy, docs and licences; warnings are errors.
lint: deny
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# Licences and duplicate sources of dependencies (deny.toml). The tool is installed below target/ when it is missing.
deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --locked check bans licenses sources

$(TOOLS)/bin/cargo-deny:
	$(CARGO) install --locked --root $(TOOLS) --version $(DENY_VERSION) --no-default-features cargo-deny

# Ten times as many random cases as `make test`; FIRSTBAD_SEED=N replays one.
soak:
	FIRSTBAD_CASES=$${FIRSTBAD_CASES:-40000} $(CARGO) test --locked --test oracle -- --nocapture

# Rebuilds testdata/shop, byte for byte.
fixtures:
	$(CARGO) run --locked -- fixtures testdata/shop

-include benches/bench.mk
