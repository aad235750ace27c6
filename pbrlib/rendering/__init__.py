"""Light on materials: the bake that makes an old texture from a modern set."""
