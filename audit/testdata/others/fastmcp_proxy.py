"""A FastMCP server behind FastMCP's OAuth proxy.

python fastmcp_proxy.py PORT UPSTREAM
"""

import sys

from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier

port, upstream = sys.argv[1:]
auth = OAuthProxy(
    upstream_authorization_endpoint=upstream + "/auth",
    upstream_token_endpoint=upstream + "/token",
    upstream_revocation_endpoint=upstream + "/token/revocation",
    upstream_client_id="proxy",
    upstream_client_secret="proxy-secret",
    token_verifier=IntrospectionTokenVerifier(
        introspection_url=upstream + "/token/introspection",
        client_id="resource",
        client_secret="resource-secret",
        required_scopes=["mcp:read"],
    ),
    base_url=f"http://127.0.0.1:{port}",
    redirect_path="/auth/callback",
)
mcp = FastMCP("notes", auth=auth)


@mcp.tool
def echo(text: str) -> str:
    "Says it again."
    return text


mcp.run(transport="http", host="127.0.0.1", port=int(port))
