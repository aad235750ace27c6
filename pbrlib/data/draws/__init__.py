"""Draw plans, and the batches that are fetched by them."""
