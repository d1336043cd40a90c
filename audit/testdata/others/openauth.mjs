// An authorization server on OpenAuth, with its own password page and one user.
// node openauth.mjs PORT
import { serve } from '@hono/node-server';
import { issuer } from '@openauthjs/openauth';
import { PasswordProvider, ScryptHasher } from '@openauthjs/openauth/provider/password';
import { MemoryStorage } from '@openauthjs/openauth/storage/memory';
import { createSubjects } from '@openauthjs/openauth/subject';
import { PasswordUI } from '@openauthjs/openauth/ui/password';

const storage = MemoryStorage();
await storage.set(['email', 'alice@example.com', 'password'], await ScryptHasher().hash('correct horse'));
const anything = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } };
const app = issuer({
  storage,
  subjects: createSubjects({ user: anything }),
  providers: { password: PasswordProvider(PasswordUI({ sendCode: async () => {} })) },
  success: async (ctx, value) => ctx.subject('user', { id: value.email }),
});
serve({ fetch: app.fetch, port: Number(process.argv[2]), hostname: '127.0.0.1' });
