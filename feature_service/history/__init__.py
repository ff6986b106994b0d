"""Features as they were known at past moments."""
