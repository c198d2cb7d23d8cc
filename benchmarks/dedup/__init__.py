"""Deduplication of real tables with known matches: F1 beside the calls made."""
