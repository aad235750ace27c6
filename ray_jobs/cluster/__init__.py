"""Sessions, checks and jobs of a Ray cluster."""
