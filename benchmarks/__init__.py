"""Measurements, run by hand: `python -m benchmarks NAME --json`. See README.md."""
