"""Estimates of the time and the cost of every table on many GPUs; docs/scale.md is the page."""
