"""Launchers: ways to run the missing runs of tables."""
