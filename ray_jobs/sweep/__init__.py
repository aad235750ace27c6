"""The trials of a sweep on Ray Tune."""
