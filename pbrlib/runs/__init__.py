"""What lies in a runs directory, read back: states, curves, wall time, differences, what may be removed."""
