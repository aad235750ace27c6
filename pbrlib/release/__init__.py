"""The model: everything that a finished ladder leaves for others, in one folder."""
