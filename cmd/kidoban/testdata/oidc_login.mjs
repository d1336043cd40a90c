// An identity provider made by others: oidc-provider with one client, short ID
// tokens and refresh rotation. Arguments: path of its package, port, redirect URI
// of the client, seconds of an ID token. What is granted is forgotten with the process.
import { pathToFileURL } from 'node:url';
const [, , path, port, redirect, life] = process.argv;
const { Provider } = await import(pathToFileURL(`${path}/lib/index.js`));
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: 'gate', client_secret: 'gate-secret', redirect_uris: [redirect], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] }],
  ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 3600, IdToken: +life, Interaction: 600, Session: 3600, RefreshToken: 3600 },
  issueRefreshToken: async () => true,
  rotateRefreshToken: () => true,
  scopes: ['openid', 'offline_access'],
});
for (const [event, what] of [['authorization_code.consumed', 'code'], ['refresh_token.consumed', 'refresh']])
  provider.on(event, () => console.log(what));
provider.on('server_error', (_, e) => console.log('error', e.message));
for (const event of ['authorization.error', 'grant.error']) provider.on(event, (_, e) => console.log('refused', e.message, e.error_description));
provider.listen(+port, '127.0.0.1', () => console.log('ready'));
