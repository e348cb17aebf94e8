"""Every table and figure of the three papers, one file each: python -m experiments."""
