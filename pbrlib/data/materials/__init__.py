"""Materials, and the steps from a source to a shard set: decoding, checks, stored maps."""
