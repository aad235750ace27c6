"""YAML files and overrides to declared things, with every mistake at once."""
