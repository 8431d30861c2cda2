#!/usr/bin/python3
"""views.py [BUILDDIR] [--plans]

What the views answer in when there are LEASES leases, for docs/performance.md: the time of EXPLAIN
(ANALYZE) for every filter, planning and execution, the median of REPS, asked as a member of
pglockd_reader with the planner's ordinary settings. Starts a daemon of BUILDDIR (default: build) on a
fresh embedded PostgreSQL. --plans prints the plans, too. Not a test: it asserts nothing.

Knobs: LEASES (1000000)  WAITERS (10000)  REPS (5)
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import desk  # pylint: disable=wrong-import-position

ARGUMENTS = [a for a in sys.argv[1:] if not a.startswith("-")]
BUILD = Path(ARGUMENTS[0] if ARGUMENTS else "build").resolve()
LEASES, WAITERS, REPS = (int(os.environ.get(name, default)) for name, default in (
    ("LEASES", 1000000), ("WAITERS", 10000), ("REPS", 5)))


def explain(cursor, query):
    """(milliseconds, rows, plan)"""
    cursor.execute("explain (analyze, format json) " + query)
    (((answer,),),) = cursor.fetchall()
    return answer["Planning Time"] + answer["Execution Time"], answer["Plan"]["Actual Rows"], answer["Plan"]


def ask(cursor):
    print(f"{'view':<10}{'filtered by':<18}{'rows':>6}{'ms':>9}")
    for view, filters in desk.FILTERS.items():
        for name, condition in filters.items():
            query = desk.query(view, condition)
            took = [explain(cursor, query) for _ in range(REPS + 1)][1:]  # the first one warms up
            print(f"{view:<10}{name:<18}{took[0][1]:>6}{statistics.median(t[0] for t in took):>9.2f}", flush=True)
            if "--plans" in sys.argv:
                cursor.execute("explain (analyze) " + query)
                print("\n".join("    " + line for line, in cursor.fetchall()), flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="pglockd-bench.", dir="/var/tmp") as directory:
        os.chmod(directory, 0o711)
        with open(f"{directory}/log", "ab") as log, subprocess.Popen(
                [BUILD / "pglockd", "--embedded", f"{directory}/data", "--listen", "127.0.0.1:0", "--http", "off"],
                stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                assert process.stdout.readline().startswith("ready "), Path(f"{directory}/log").read_text()
                connection = psycopg2.connect(f"host={directory}/data/run dbname=pglockd user=postgres")
                connection.autocommit = True
                cursor = connection.cursor()
                desk.load(cursor, LEASES, WAITERS)
                cursor.execute("vacuum pglockd.lease, pglockd.waiter")
                cursor.execute("set role pglockd_reader")
                ask(cursor)
                connection.close()
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
