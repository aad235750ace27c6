"""The training loop and its records; independent of the models."""
