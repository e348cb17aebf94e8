"""Faults of every kind, against what deepconv promises: `pytest tests/faults -m slow`."""
