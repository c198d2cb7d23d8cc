"""Configuration of the Superset that the check starts: all that it keeps is in one folder."""

from __future__ import annotations

import os

SECRET_KEY = "for a check that nobody reaches from outside"
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
RATELIMIT_ENABLED = False
