"""Shard sets: lossless tiles in Parquet, with a manifest and an index."""
