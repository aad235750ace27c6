"""The plan of a run: declared, validated, described, carried out."""
