"""The identity provider Canaille with one user and open registration.

python canaille_as.py PORT FOLDER
"""

import sys

from werkzeug.serving import make_server

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend

port = int(sys.argv[1])
app = create_app(
    {
        "SECRET_KEY": "a secret of the test",
        "SERVER_NAME": f"127.0.0.1:{port}",
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{sys.argv[2]}/canaille.sqlite"},
        "CANAILLE": {"DATABASE": "sql", "ACL": {"DEFAULT": {"PERMISSIONS": ["edit_self", "use_oidc"]}}},
        "CANAILLE_OIDC": {
            "DYNAMIC_CLIENT_REGISTRATION_OPEN": True,
            "REQUIRE_NONCE": False,
            "TRUSTED_DOMAINS": [],
        },
    }
)
with app.app_context():
    Backend.instance.install(app)
    user = models.User(
        formatted_name="Alice Example",
        family_name="Example",
        user_name="alice",
        emails=["alice@example.com"],
        password="correct horse",
    )
    Backend.instance.save(user)
    resource = models.Client(
        client_id="resource",
        client_secret="resource-secret",
        client_name="resource",
        contacts=["alice@example.com"],
        redirect_uris=["http://127.0.0.1/none"],
        grant_types=["authorization_code"],
        response_types=["code"],
        scope=["openid"],
        token_endpoint_auth_method="client_secret_basic",
    )
    Backend.instance.save(resource)
make_server("127.0.0.1", port, app, threaded=True).serve_forever()
