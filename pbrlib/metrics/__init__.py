"""Metrics as sums and counts, exact under uneven shards."""
