"""The tables and figures of the three papers, one file each. `python -m experiments` lists them."""
