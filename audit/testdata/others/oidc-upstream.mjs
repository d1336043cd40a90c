// The upstream of a proxy, on oidc-provider: one static client, the development pages.
// node oidc-upstream.mjs PORT CALLBACK
import Provider from 'oidc-provider';

const [port, callback] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  scopes: ['openid', 'offline_access', 'mcp:read'],
  clients: [
    {
      client_id: 'proxy',
      client_secret: 'proxy-secret',
      redirect_uris: [callback],
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'client_secret_post',
    },
    { client_id: 'resource', client_secret: 'resource-secret', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  features: {
    revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'http://127.0.0.1/api',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'mcp:read', accessTokenFormat: 'opaque' }),
    },
  },
});
provider.listen(Number(port), '127.0.0.1');
