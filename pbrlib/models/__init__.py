"""The networks of the recipe and their specs."""
