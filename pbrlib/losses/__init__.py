"""Loss terms as pure functions, and the recipe that sums them."""
