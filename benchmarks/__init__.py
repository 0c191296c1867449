"""One runnable file a claim; each prints its result as one JSON line. `python -m benchmarks.NAME`."""
