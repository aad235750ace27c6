"""Texture files of the game: the DDS container, its block codecs, and which files make a pair."""
