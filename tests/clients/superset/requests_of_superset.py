"""Superset without a browser: requests come as lines of JSON, and so do the answers.

Runs in Superset's own environment, which has nothing of ours, with SUPERSET_CONFIG_PATH and
SUPERSET_HOME set. A request is {"method", "path", "json"}, an answer {"status", "body"}. All
requests are of one administrator. What Superset logs goes to standard error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

USER = {"username": "admin", "password": "admin"}


def main() -> None:
    """Set Superset up, then answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # Superset and its plugins print
    from superset.app import create_app

    app = create_app()
    with app.app_context():
        set_up(app)
    client = app.test_client()
    client.post("/login/", data=USER)  # the answer has a cookie that the client keeps
    print(json.dumps({"status": 200, "body": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = client.open(request["path"], method=request["method"], json=request["json"])
        body = answer.get_json(silent=True)
        text = answer.get_data(as_text=True)
        found = {"status": answer.status_code, "body": text if body is None else body}
        print(json.dumps(found), file=answers, flush=True)


def set_up(app: Any) -> None:
    """Make the tables of Superset, its roles, and the administrator."""
    from flask_migrate import upgrade

    upgrade()
    app.appbuilder.add_permissions(update_perms=True)
    manager = app.appbuilder.sm
    manager.sync_role_definitions()
    if manager.find_user("admin") is None:
        admin = manager.find_role("Admin")
        manager.add_user("admin", "A", "B", "admin@example.org", admin, password=USER["password"])


if __name__ == "__main__":
    main()
