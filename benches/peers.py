"""The check suite of tpch-rules.yaml in DuckDB and Polars beside firstbad: the same questions over the same files, the same answers.

    peers.py BINARY DIRECTORY [--rounds 5] [--threads 2]      measures, interleaved, and prints a Markdown table
             [--suite PROGRAM]                                and over a store too: with the program that `benches/tpch` becomes
    peers.py --one duckdb|polars DIRECTORY                    runs one peer once and prints {check: violations} as JSON

Every run is a process of its own; wall is from its start to its end, CPU and peak memory are what the system counted for it. So
starting the interpreter and importing the peer is part of its figure, as starting firstbad is of its own; `inside` leaves it out.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

NOW = "1998-08-04T00:00:00Z"
HERE = pathlib.Path(__file__).resolve().parent

# One query a check; each returns the keys of the violations.
NULL = "select {key} from {t} where {c} is null"
IN = "select {key} from {t} where {c} not in ({v})"
ROWS = "select {key} from {t} where {v}"
TWICE = "select {c}, count(*) from {t} where {v} group by {c} having count(*) > 1"
LINE, ORDER, CUSTOMER, PART = "l_orderkey, l_linenumber", "o_orderkey", "c_custkey", "ps_partkey, ps_suppkey"
SQL = {
    "line-without-shipdate": NULL.format(key=LINE, t="lineitem", c="l_shipdate"),
    "order-without-customer-key": NULL.format(key=ORDER, t="orders", c="o_custkey"),
    "unknown-return-flag": IN.format(key=LINE, t="lineitem", c="l_returnflag", v="'A','N','R'"),
    "unknown-line-status": IN.format(key=LINE, t="lineitem", c="l_linestatus", v="'O','F'"),
    "unknown-order-status": IN.format(key=ORDER, t="orders", c="o_orderstatus", v="'O','F','P'"),
    "unknown-priority": IN.format(
        key=ORDER, t="orders", c="o_orderpriority", v="'1-URGENT','2-HIGH','3-MEDIUM','4-NOT SPECIFIED','5-LOW'"
    ),
    "quantity-out-of-range": ROWS.format(key=LINE, t="lineitem", v="l_quantity < 1 or l_quantity > 50"),
    "discount-out-of-range": ROWS.format(key=LINE, t="lineitem", v="l_discount < 0 or l_discount > 0.10"),
    "balance-out-of-range": ROWS.format(key=CUSTOMER, t="customer", v="c_acctbal < -1000 or c_acctbal > 10000"),
    "stock-out-of-range": ROWS.format(key=PART, t="partsupp", v="ps_availqty < 1 or ps_availqty > 9999"),
    "malformed-phone": ROWS.format(
        key=CUSTOMER, t="customer", v="not regexp_matches(c_phone, '^[0-9]{2}-[0-9]{3}-[0-9]{3}-[0-9]{4}$')"
    ),
    "malformed-clerk": ROWS.format(key=ORDER, t="orders", v="not regexp_matches(o_clerk, '^Clerk#[0-9]{9}$')"),
    "received-before-shipped": ROWS.format(key=LINE, t="lineitem", v="not (l_receiptdate >= l_shipdate)"),
    "orders-not-fresh": f"select max(o_orderdate) from orders having max(o_orderdate) < timestamp '{NOW[:10]}' - interval 1 day",
    "nation-count": "select count(*) from nation having count(*) <> 26",
    "missing-customer-number": "select unnest(range(p + 1, c_custkey)) from (select c_custkey, lag(c_custkey) over (order by c_custkey) p "
    "from (select distinct c_custkey from customer)) where c_custkey - p > 1",
    "line-twice": TWICE.format(t="lineitem", c=LINE, v="l_orderkey is not null and l_linenumber is not null"),
    "order-twice": TWICE.format(t="orders", c=ORDER, v="o_orderkey is not null"),
    "partsupp-twice": TWICE.format(t="partsupp", c=PART, v="ps_partkey is not null and ps_suppkey is not null"),
    "line-without-order": f"select {LINE} from lineitem where l_orderkey is not null "
    "and not exists (select 1 from orders where o_orderkey = l_orderkey)",
    "line-without-partsupp": f"select {LINE} from lineitem where l_partkey is not null and l_suppkey is not null "
    "and not exists (select 1 from partsupp where ps_partkey = l_partkey and ps_suppkey = l_suppkey)",
    "order-without-customer": "select o_orderkey from orders where o_custkey is not null "
    "and not exists (select 1 from customer where c_custkey = o_custkey)",
    "customer-without-nation": "select c_custkey from customer where c_nationkey is not null "
    "and not exists (select 1 from nation where n_nationkey = c_nationkey)",
    "order-without-lines": "select o_orderkey from orders where not exists (select 1 from lineitem where l_orderkey = o_orderkey)",
    "total-differs-from-lines": "select o_orderkey, o_totalprice, s from orders left join (select l_orderkey, "
    "sum(l_extendedprice * (1 + l_tax) * (1 - l_discount)) s from lineitem group by l_orderkey) on l_orderkey = o_orderkey "
    "where abs(o_totalprice - coalesce(s, 0)) > 1",
}


def duckdb_suite(directory, threads):
    import duckdb

    start = time.perf_counter()
    connection = duckdb.connect()
    connection.execute(f"set threads = {threads}")
    for name in ("nation", "customer", "partsupp", "orders", "lineitem"):
        connection.execute(f"create view {name} as from read_parquet('{directory / name}.parquet')")
    found = {check: len(connection.execute(sql).fetchall()) for check, sql in SQL.items()}
    return found, time.perf_counter() - start


def polars_suite(directory):
    import polars as pl

    start = time.perf_counter()
    table = {name: pl.scan_parquet(directory / f"{name}.parquet") for name in ("nation", "customer", "partsupp", "orders", "lineitem")}
    nation, customer, partsupp, orders, lineitem = table.values()
    c, line, part = pl.col, ["l_orderkey", "l_linenumber"], ["ps_partkey", "ps_suppkey"]

    def rows(frame, key, wrong):
        return frame.filter(wrong).select(key)

    def outside(column, low, high):
        low, high = pl.lit(low), pl.lit(high)
        return (c(column) < low) | (c(column) > high)

    def not_in(column, *values):
        return ~c(column).is_in(list(values))

    def twice(frame, key):
        return frame.filter(pl.all_horizontal(c(k).is_not_null() for k in key)).group_by(key).len().filter(c("len") > 1)

    def dangling(frame, key, own, other, theirs):
        present = pl.all_horizontal(c(k).is_not_null() for k in own)
        return frame.filter(present).join(other.select(theirs), left_on=own, right_on=theirs, how="anti").select(key)

    from decimal import Decimal as D

    numbers = customer.select(c("c_custkey").unique().sort())
    gaps = numbers.select(c("c_custkey").diff()).filter(c("c_custkey") > 1)
    value = c("l_extendedprice") * (1 + c("l_tax")) * (1 - c("l_discount"))
    sums = lineitem.group_by("l_orderkey").agg(value.sum().alias("s"))
    balance = orders.join(sums, left_on="o_orderkey", right_on="l_orderkey", how="left").filter(
        (c("o_totalprice") - c("s").fill_null(0)).abs() > 1
    )
    day = pl.lit(NOW[:10]).str.to_date() - pl.duration(days=1)
    checks = {
        "line-without-shipdate": rows(lineitem, line, c("l_shipdate").is_null()),
        "order-without-customer-key": rows(orders, "o_orderkey", c("o_custkey").is_null()),
        "unknown-return-flag": rows(lineitem, line, not_in("l_returnflag", "A", "N", "R")),
        "unknown-line-status": rows(lineitem, line, not_in("l_linestatus", "O", "F")),
        "unknown-order-status": rows(orders, "o_orderkey", not_in("o_orderstatus", "O", "F", "P")),
        "unknown-priority": rows(
            orders, "o_orderkey", not_in("o_orderpriority", "1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
        ),
        "quantity-out-of-range": rows(lineitem, line, outside("l_quantity", D(1), D(50))),
        "discount-out-of-range": rows(lineitem, line, outside("l_discount", D(0), D("0.10"))),
        "balance-out-of-range": rows(customer, "c_custkey", outside("c_acctbal", D(-1000), D(10000))),
        "stock-out-of-range": rows(partsupp, part, outside("ps_availqty", 1, 9999)),
        "malformed-phone": rows(customer, "c_custkey", ~c("c_phone").str.contains("^[0-9]{2}-[0-9]{3}-[0-9]{3}-[0-9]{4}$")),
        "malformed-clerk": rows(orders, "o_orderkey", ~c("o_clerk").str.contains("^Clerk#[0-9]{9}$")),
        "received-before-shipped": rows(lineitem, line, c("l_receiptdate") < c("l_shipdate")),
        "orders-not-fresh": orders.select(c("o_orderdate").max()).filter(c("o_orderdate") < day),
        "nation-count": nation.select(pl.len()).filter(c("len") != 26),
        "missing-customer-number": gaps.select((c("c_custkey") - 1).sum()),
        "line-twice": twice(lineitem, line),
        "order-twice": twice(orders, ["o_orderkey"]),
        "partsupp-twice": twice(partsupp, part),
        "line-without-order": dangling(lineitem, line, ["l_orderkey"], orders, ["o_orderkey"]),
        "line-without-partsupp": dangling(lineitem, line, ["l_partkey", "l_suppkey"], partsupp, part),
        "order-without-customer": dangling(orders, "o_orderkey", ["o_custkey"], customer, ["c_custkey"]),
        "customer-without-nation": dangling(customer, "c_custkey", ["c_nationkey"], nation, ["n_nationkey"]),
        "order-without-lines": orders.join(
            lineitem.select("l_orderkey"), left_on="o_orderkey", right_on="l_orderkey", how="anti"
        ).select("o_orderkey"),
        "total-differs-from-lines": balance.select("o_orderkey", "o_totalprice", "s"),
    }
    assert checks.keys() == SQL.keys()
    found = {}
    for check, query in checks.items():
        answer = query.collect(engine="streaming")
        found[check] = answer.item() if check == "missing-customer-number" else answer.height
    return found, time.perf_counter() - start


def measure(command, environment):
    """One run: seconds of wall and CPU, peak MB, and what was found."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
        out.seek(0)
        text = out.read()
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        sys.exit(f"{command[0]} ended with {code}")
    document = json.loads(text)
    if "rules" in document:
        unknown = [rule["id"] for rule in document["rules"] if rule["verdict"] == "unknown"]
        if unknown:
            sys.exit(f"firstbad could not judge {unknown}")
        found, inside = {rule["id"]: rule["violations"] for rule in document["rules"]}, wall
    else:
        found, inside = document["found"], document["inside"]
    return {"wall": wall, "inside": inside, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024, "found": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=["duckdb", "polars"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--suite", metavar="PROGRAM")
    parser.add_argument("paths", nargs="+", metavar="PATH")
    arguments = parser.parse_args()
    directory = pathlib.Path(arguments.paths[-1]).resolve()
    if arguments.one:
        suite = duckdb_suite(directory, arguments.threads) if arguments.one == "duckdb" else polars_suite(directory)
        print(json.dumps({"found": suite[0], "inside": suite[1]}))
        return
    binary = str(pathlib.Path(arguments.paths[0]).resolve())
    environment = dict(os.environ, POLARS_MAX_THREADS=str(arguments.threads))
    itself = [sys.executable, str(pathlib.Path(__file__).resolve()), "--threads", str(arguments.threads), "--one"]
    rules = str(HERE / "tpch-rules.yaml")
    commands = {
        "DuckDB": [*itself, "duckdb", str(directory)],
        "Polars": [*itself, "polars", str(directory)],
        "firstbad": [binary, "check", str(directory), "--rules", rules, "--now", NOW, "--format", "json"],
    }
    if arguments.suite:
        program = str(pathlib.Path(arguments.suite).resolve())
        commands["firstbad, over a store"] = [program, "--only-store", "--dir", str(directory)]
    planted = json.loads((directory / "planted.json").read_text())
    runs = {name: [] for name in commands}
    for turn in range(arguments.rounds + 1):
        for name, command in commands.items():
            run = measure(command, environment)
            if run["found"] != planted:
                wrong = {k: (run["found"].get(k), v) for k, v in planted.items() if run["found"].get(k) != v}
                sys.exit(f"{name} did not find what was planted (found, planted): {wrong}")
            # The first turn warms the file cache.
            if turn > 0:
                runs[name].append(run)
    print(f"{len(planted)} checks, {sum(planted.values())} violations, found by all; {arguments.rounds} interleaved rounds, medians (best)\n")
    print("| engine | wall s | without start s | CPU s | peak MB | CPU to DuckDB | wall to DuckDB |\n|---|---|---|---|---|---|---|")

    def middle(name, figure):
        return statistics.median(run[figure] for run in runs[name])

    for name in commands:
        cells = [f"{middle(name, f):.2f} ({min(run[f] for run in runs[name]):.2f})" for f in ("wall", "inside", "cpu")]
        ratios = [f"{middle(name, f) / middle('DuckDB', f):.2f}" for f in ("cpu", "wall")]
        print(f"| {name} | {' | '.join(cells)} | {middle(name, 'peak'):.0f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
