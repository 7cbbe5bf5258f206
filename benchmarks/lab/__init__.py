"""The quality laboratory: rows that change one thing each, trained alike, measured alike, in one table.

    python -m benchmarks.lab --data PAIRS -o benchmarks/results

A row is a TOML file in `rows/` (or anywhere): what it is about, the row it changes, and the changed settings.
"""
