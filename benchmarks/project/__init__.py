"""A project of its own for the benchmarks of calls: models, calls and settings."""
