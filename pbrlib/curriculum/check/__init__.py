"""What a curriculum must agree with."""
