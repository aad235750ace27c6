"""Metrics as sums and counts, which give exact means for unequal shards."""
