"""Benchmarks: the table of cases, the peers, and interleaved measurement with an assertion that all gradients agree."""
