"""Django OAuth Toolkit with the login page of Django's admin and one user.

python django_as.py PORT FOLDER
"""

import sys

import django
from django.conf import settings
from django.core.management import call_command

port, folder = sys.argv[1], sys.argv[2]
settings.configure(
    DEBUG=False,
    SECRET_KEY="a secret of the test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="django_as",
    USE_TZ=True,
    LOGIN_URL="/admin/login/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder + "/db.sqlite3", "OPTIONS": {"timeout": 20}}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    STATIC_URL="/static/",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    OAUTH2_PROVIDER={
        "DCR_ENABLED": True,
        "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
        "SCOPES": {"read": "Read", "introspection": "Ask about tokens"},
        "DEFAULT_SCOPES": ["read"],
    },
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider import urls as provider  # noqa: E402

urlpatterns = [
    path("admin/", admin.site.urls),
    path("o/", include((provider.base_urlpatterns + provider.oidc_urlpatterns + provider.dcr_urlpatterns, "oauth2_provider"))),
    path("", include((provider.metadata_urlpatterns, "metadata"))),
]
if __name__ == "__main__":
    sys.modules["django_as"] = sys.modules["__main__"]
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    User.objects.create_superuser("alice", "alice@example.com", "correct horse")
    from oauth2_provider.models import Application

    Application.objects.create(
        client_id="resource",
        client_secret="resource-secret",
        client_type="confidential",
        authorization_grant_type="client-credentials",
        name="resource",
    )
    from wsgiref.simple_server import WSGIRequestHandler, make_server
    from django.core.wsgi import get_wsgi_application
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    make_server("127.0.0.1", int(port), get_wsgi_application(), server_class=Threaded).serve_forever()
