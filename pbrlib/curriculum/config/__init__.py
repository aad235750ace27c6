"""Loads specs from YAML files and overrides, and reports all mistakes at once."""
