"""A run's directory: what it holds, and how it stays whole."""
