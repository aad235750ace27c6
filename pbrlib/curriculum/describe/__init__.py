"""What a ladder would do, for people and for programs."""
