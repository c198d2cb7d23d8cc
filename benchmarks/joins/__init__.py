"""Strategies of joins whose condition a model decides."""
