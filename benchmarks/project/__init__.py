"""A project of its own for `benchmarks/concurrent.py`: models, calls and settings."""
