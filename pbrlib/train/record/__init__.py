"""What a phase writes down while it trains."""
