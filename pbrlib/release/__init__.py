"""Releases: writes the networks of a finished ladder as a model folder."""
