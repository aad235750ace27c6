"""A training in small: every phase at its real sizes for a few steps, and what the whole will take."""
