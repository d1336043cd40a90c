// An authorization server on oidc-provider, with its development pages.
// node oidc-provider.mjs PORT RESOURCE
import Provider, { errors } from 'oidc-provider';

const [port, resource] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  scopes: ['openid', 'offline_access', 'mcp:read'],
  clients: [{ client_id: 'resource', client_secret: 'resource-secret', redirect_uris: [], response_types: [], grant_types: [] }],
  features: {
    registration: { enabled: true },
    registrationManagement: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, indicator) => {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return { scope: 'mcp:read', accessTokenFormat: 'opaque' };
      },
    },
  },
});
provider.listen(Number(port), '127.0.0.1');
