"""All SQL of the registry, on SQLite and PostgreSQL alike."""
