#!/bin/sh
# Makes a virtual environment with the peers, the data, and the table: peers.sh [TARGET_DIRECTORY] [ROUNDS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-${CARGO_TARGET_DIR:-$here/../target}}
rounds=${2:-5}
data=$here/../target/tpch-sf1
environment=$target/peers-venv
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "peers.sh needs python3 with its venv module" >&2; exit 1; }
if ! "$environment/bin/python" -c 'import duckdb, polars' 2>/dev/null; then
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet duckdb==2.0.0 polars==2.1.0
fi
# The newest of the programs that the benchmark became; it writes the tables and the store where they are missing.
suite=$(find "$target/dist/deps" -name 'tpch-*' ! -name '*.d' -type f -exec ls -t {} + | head -n 1)
[ -n "$suite" ] || { echo "peers.sh needs the benchmark: cargo bench --locked --profile dist --no-run" >&2; exit 1; }
[ -f "$data-store/FORMAT" ] || "$suite" --dir "$data"
"$environment/bin/python" "$here/peers.py" "$target/dist/firstbad" "$data" --rounds "$rounds" --suite "$suite"
