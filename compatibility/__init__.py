"""Django's own tests, run with NoAtomicMixin: ``python -m compatibility``."""
