// An authorization server made by others: oidc-provider with its own pages,
// dynamic registration, resource indicators and refresh rotation.
// Arguments: path of its package, port, resource, seconds of an access token.
import { pathToFileURL } from 'node:url';
const [, , path, port, resource, life] = process.argv;
const { Provider } = await import(pathToFileURL(`${path}/lib/index.js`));
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  ttl: { AccessToken: +life, AuthorizationCode: 60, Grant: 3600, IdToken: 60, Interaction: 600, Session: 3600, RefreshToken: 3600 },
  issueRefreshToken: async () => true,
  rotateRefreshToken: () => true,
  scopes: ['openid', 'offline_access', 'read'],
  features: {
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (_, asked) => {
        if (asked !== resource) throw new Error('unknown resource');
        return { scope: 'read', audience: resource, accessTokenTTL: +life, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
});
for (const [event, what] of [['authorization_code.consumed', 'code'], ['refresh_token.consumed', 'refresh'], ['registration_create.success', 'registered'], ['access_token.issued', 'token']])
  provider.on(event, () => console.log(what));
provider.on('server_error', (_, e) => console.log('error', e.message));
provider.on('authorization.error', (_, e) => console.log('refused', e.message, e.error_description));
provider.on('grant.error', (_, e) => console.log('refused', e.message, e.error_description));
provider.on('registration_create.error', (_, e) => console.log('refused', e.message, e.error_description));
provider.listen(+port, '127.0.0.1', () => console.log('ready'));
