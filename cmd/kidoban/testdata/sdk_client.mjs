// A client built on the TypeScript SDK: from a 401 to a tool's result and through
// a refresh. Usage: node sdk_client.mjs <esm folder of the SDK> <url> <ms to wait>
// It opens links with $BROWSER and prints one JSON line.
import { execFile } from "node:child_process";
import { createServer } from "node:http";

const [sdk, url, wait] = process.argv.slice(2);
const { Client } = await import(sdk + "/client/index.js");
const { StreamableHTTPClientTransport } = await import(sdk + "/client/streamableHttp.js");
const { UnauthorizedError } = await import(sdk + "/client/auth.js");

let arrived;
const callback = createServer((req, res) => {
  res.end("you may close this window");
  const code = new URL(req.url, "http://127.0.0.1").searchParams.get("code");
  if (code) arrived(code);
});
await new Promise((ready) => callback.listen(0, "127.0.0.1", ready));
const redirect = `http://127.0.0.1:${callback.address().port}/callback`;

const kept = {};
let code;
const provider = {
  redirectUrl: redirect,
  clientMetadata: {
    client_name: "TypeScript SDK proof",
    redirect_uris: [redirect],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (v) => { kept.client = v; },
  tokens: () => kept.tokens,
  saveTokens: (v) => { kept.tokens = v; },
  saveCodeVerifier: (v) => { kept.verifier = v; },
  codeVerifier: () => kept.verifier,
  redirectToAuthorization: (link) => {
    code = new Promise((resolve) => { arrived = resolve; });
    execFile(process.env.BROWSER, [link.href]);
  },
};

let client, transport;
async function connect() {
  transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  client = new Client({ name: "proof", version: "1" });
  await client.connect(transport);
}
// withLogin does what the SDK's documentation tells applications to do.
async function withLogin(work) {
  try {
    return await work();
  } catch (e) {
    if (!(e instanceof UnauthorizedError)) throw e;
    await transport.finishAuth(await code);
    await connect();
    return await work();
  }
}
const call = (name, text) => withLogin(() => client.callTool({ name, arguments: { text } })).then((r) => r.content[0].text);

await withLogin(() => (client ? Promise.resolve() : connect()));
await client.listTools();
const out = [await call("look", "read")];
await new Promise((resolve) => setTimeout(resolve, Number(wait)));
out.push(await call("look", "later"));
console.log(JSON.stringify(out));
await client.close();
callback.close();
process.exit(0);
