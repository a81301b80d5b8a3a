"""Speed and memory, run by hand: `python -m tests.benchmarks`. Every figure is a ratio against a peer in one run."""
