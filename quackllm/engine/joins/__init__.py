"""Strategies for the condition of a join that a model decides, other than asking every pair."""
