"""A run's directory: its files and their integrity."""
