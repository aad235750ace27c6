"""Materials on their way from a source to a shard set."""
