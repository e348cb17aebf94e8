"""Recipes: their fields, their durations, and how they are changed."""
