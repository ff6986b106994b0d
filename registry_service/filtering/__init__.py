"""The language of filters and orders: from text to a tree of typed comparisons. No SQL here."""
