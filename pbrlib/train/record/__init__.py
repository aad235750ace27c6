"""The records that a phase writes while it trains."""
