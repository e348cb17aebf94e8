"""Ways to run what tables are missing."""
