"""Holds a DuckDB database until its input ends."""

import sys

import duckdb

connection = duckdb.connect(sys.argv[1])
sys.stdout.write("held\n")
sys.stdout.flush()
sys.stdin.read()
connection.close()
