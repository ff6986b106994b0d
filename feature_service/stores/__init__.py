"""Where feature rows lie: point-in-time joins over Parquet, and the same as a Feast offline store."""
