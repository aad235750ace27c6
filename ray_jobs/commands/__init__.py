"""The subcommands of ``pbr``."""
