"""Counts with DuckDB what the rules of rules/flights.yaml must find, and writes expected.json.

Usage: python3 -m venv venv && venv/bin/pip install duckdb && venv/bin/python expected.py

The queries here were written by hand from the descriptions of the rules; they share no text with firstbad's.
Now is 2014-01-01T05:00:00Z, the end of the year 2013 in New York.
"""

import json
import pathlib

import duckdb

HERE = pathlib.Path(__file__).parent
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
for table in ["airlines", "airports", "planes", "weather", "flights"]:
    db.execute(
        f"create table {table} as select * from read_csv('{HERE}/snapshot/{table}.csv.gz', header = true, sample_size = -1)"
    )

DEPARTURES = """
with legs as (
  select *, time_hour + to_minutes(minute) + to_minutes(dep_delay) as off
  from flights where tailnum is not null and air_time is not null
)
"""
# rule: (columns of the key, query that returns the violating keys, query that counts the judged)
FLIGHT, READING = ["time_hour", "carrier", "flight"], ["origin", "time_hour"]
ALL, DEPARTED, LANDED = "flights", "flights where dep_time is not null", "flights where arr_time is not null"
RULES = {
    "flight-to-unknown-airport": (FLIGHT, "select {key} from flights anti join airports on dest = faa", ALL),
    "flight-of-unknown-airline": (FLIGHT, "select {key} from flights anti join airlines using (carrier)", ALL),
    "flight-by-unknown-plane": (
        FLIGHT, "select {key} from flights anti join planes using (tailnum) where tailnum is not null", ALL),
    "departed-without-tail-number": (
        FLIGHT, "select {key} from flights where dep_time is not null and tailnum is null", DEPARTED),
    "malformed-tail-number": (
        FLIGHT,
        "select {key} from flights where tailnum is not null and not ("
        " regexp_full_match(tailnum, 'N[1-9][0-9]{{0,4}}') or regexp_full_match(tailnum, 'N[1-9][0-9]{{0,3}}[A-HJ-NP-Z]')"
        " or regexp_full_match(tailnum, 'N[1-9][0-9]{{0,2}}[A-HJ-NP-Z][A-HJ-NP-Z]'))",
        ALL),
    "airliner-is-a-small-plane": (
        FLIGHT, "select {key} from flights join planes using (tailnum) where seats < 20", ALL),
    "plane-in-two-places": (
        FLIGHT,
        DEPARTURES + "select distinct a.time_hour, a.carrier, a.flight from legs a join legs b"
        " on a.tailnum = b.tailnum and b.off >= a.off and b.off < a.off + to_minutes(a.air_time)"
        " and (a.carrier, a.flight, a.time_hour) <> (b.carrier, b.flight, b.time_hour)",
        None),
    "departure-delay-does-not-add-up": (
        FLIGHT,
        "select {key} from flights where (dep_time // 100 * 60 + dep_time % 100 + 14400"
        " - sched_dep_time // 100 * 60 - sched_dep_time % 100 - dep_delay) % 1440 <> 0", ALL),
    "clock-shows-2400": (FLIGHT, "select {key} from flights where 2400 in (dep_time, arr_time)", ALL),
    "departed-but-never-landed": (
        FLIGHT, "select {key} from flights where dep_time is not null and arr_time is null", DEPARTED),
    "landed-without-air-time": (
        FLIGHT, "select {key} from flights where arr_time is not null and air_time is null", LANDED),
    "too-many-cancellations": (FLIGHT, "select {key} from flights where dep_time is null", ALL),
    "distance-of-a-route-differs": (
        ["origin", "dest"],
        "select distinct a.origin, a.dest from flights a join flights b using (origin, dest) where a.distance <> b.distance",
        None),
    "flight-without-weather": (
        FLIGHT, "select {key} from flights anti join weather using (origin, time_hour)", ALL),
    "missing-weather-hour": (
        ["origin", "window"],
        "select origin, hours.hour as window from (select origin, min(time_hour) as first from weather group by origin)"
        " cross join (select unnest(generate_series(timestamptz '2013-01-01 00:00:00Z', timestamptz '2014-01-01 04:00:00Z',"
        " interval 1 hour)) as hour) as hours"
        " where hours.hour >= first and (origin, hours.hour) not in (select (origin, time_hour) from weather)",
        "weather"),
    "weather-station-silent": (
        ["origin"],
        "select origin from weather group by origin"
        " having timestamptz '2014-01-01 05:00:00Z' - max(time_hour) > interval 3 hour", "weather"),
    "impossible-wind-speed": (READING, "select {key} from weather where wind_speed < 0 or wind_speed > 250", "weather"),
    "temperature-spike": (
        READING,
        "with r as (select *, row_number() over (partition by origin order by time_hour) as n from weather)"
        " select b.origin, b.time_hour from r a join r b on a.origin = b.origin and b.n = a.n + 1"
        " join r c on c.origin = b.origin and c.n = b.n + 1"
        " where abs(a.temp - b.temp) > 20 and abs(c.temp - b.temp) > 20", None),
    "local-hour-is-not-a-key": (
        ["origin", "year", "month", "day", "hour"],
        "select {key} from weather group by all having count(*) > 1", "weather"),
    "plane-speed-mostly-unknown": ([], "select 1 where (select 100.0 * count(speed) / count(*) from planes) < 50", "planes"),
    "plane-without-year": (["tailnum"], "select tailnum from planes where year is null", "planes"),
}
# Held although something is found: the threshold allows it.
HELD = {"too-many-cancellations"}


def shown(value):
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else value


expected = {}
for rule, (key, query, judged) in RULES.items():
    found = sorted(db.execute(query.format(key=", ".join(key)) if "{" in query else query).fetchall())
    entry = {
        "verdict": "held" if rule in HELD or not found else "violated",
        "violations": len(found),
        "judged": db.execute(f"select count(*) from {judged}").fetchone()[0] if judged else len(found),
    }
    if len(found) <= 40:
        entry["keys"] = [dict(zip(key, map(shown, row))) for row in found]
    expected[rule] = entry

lines = ",\n".join(f"    {json.dumps(rule)}: {json.dumps(entry)}" for rule, entry in expected.items())
text = '{\n  "now": "2014-01-01T05:00:00Z",\n  "rules": {\n' + lines + "\n  }\n}\n"
(HERE / "expected.json").write_text(text)
for rule, entry in expected.items():
    print(f"{rule:40} {entry['verdict']:9} {entry['violations']:6} of {entry['judged']}")
