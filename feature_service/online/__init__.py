"""Features as they are now."""
