"""Recipes, their fields and durations, and changes to them."""
