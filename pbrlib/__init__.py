"""Networks, losses, data and conversion for physically based texture maps; does not import Ray."""
