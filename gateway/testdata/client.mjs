// A client by the TypeScript SDK: node client.mjs legacy|modern ENDPOINT TOKEN ASK-ENDPOINT ASK-TOKEN
// prints one JSON object of what it saw.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [era, url, token, askURL, askToken] = process.argv.slice(2);
const open = async (endpoint, bearer) => {
  const client = new Client(
    { name: 'ts', version: '1' },
    { capabilities: { elicitation: { form: {}, url: {} } }, versionNegotiation: { mode: era === 'modern' ? { pin: '2026-07-28' } : 'legacy' } },
  );
  client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { name: 'Aiko' } }));
  await client.connect(new StreamableHTTPClientTransport(new URL(endpoint), { requestInit: { headers: { Authorization: `Bearer ${bearer}` } } }));
  return client;
};
const client = await open(url, token);
const seen = { progress: 0 };
seen.tools = (await client.listTools()).tools.map(t => t.name).sort();
seen.echo = (await client.callTool({ name: 'echo', arguments: { text: 'hi' } })).content[0].text;
seen.slow = (await client.callTool({ name: 'slow', arguments: { text: '' } }, { onprogress: () => { seen.progress++; } })).content[0].text;
try {
  const r = await client.callTool({ name: 'none', arguments: {} });
  seen.none = r.isError ? 'error' : 'answered';
} catch { seen.none = 'error'; }
await client.close();
const ask = await open(askURL, askToken);
seen.ask = (await ask.callTool({ name: 'ask', arguments: { text: '' } })).content[0].text;
await ask.close();
console.log(JSON.stringify(seen));
