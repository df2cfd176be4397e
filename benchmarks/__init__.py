"""Suites for asv. They draw their cases from fastbptt.bench.cases and check a tiny twin of each case before timing it.

The files in ``rounds/`` are for pytest-benchmark and draw from the same table.
"""
