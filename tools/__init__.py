"""Commands of the development environment; no part of the package."""
