"""The command line and everything that runs on Ray; the only package that imports it."""
