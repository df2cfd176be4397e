"""Benchmarks: the table of cases, the rivals, and interleaved measurement with an assertion that all gradients agree."""
