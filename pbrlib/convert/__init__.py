"""From an old texture folder to one that the game loads."""
