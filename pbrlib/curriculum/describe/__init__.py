"""Descriptions of a ladder: as data, and as tables for the terminal."""
