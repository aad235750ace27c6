"""Training tasks: one module per kind of task."""
