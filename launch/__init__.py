"""Launchers: ways to run the missing runs of tables and grids, on this machine or in Slurm, and to see their state."""
