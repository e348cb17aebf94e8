"""Fast implementations of operations, and plain ones to compare with."""
