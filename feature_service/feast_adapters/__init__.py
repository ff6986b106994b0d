"""Feast, as the rest sees it: definitions, transformations, its online stores."""
