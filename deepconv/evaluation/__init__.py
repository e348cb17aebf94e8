"""Tests: a net and a data set -> class probabilities -> errors."""
