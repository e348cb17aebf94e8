"""Launchers: start the missing runs of tables and grids here, in Slurm or in Kubernetes, and show their state."""
