"""A step that is not finite: kept, replayed, examined."""
