"""Networks, losses, data and conversion for physically based texture maps; knows nothing of Ray."""
