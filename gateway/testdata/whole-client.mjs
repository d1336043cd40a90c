// A client by the TypeScript SDK at the endpoint for all servers: node whole-client.mjs legacy|modern ENDPOINT TOKEN SERVER...
// prints one JSON object of what it saw.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [era, url, token, ...servers] = process.argv.slice(2);
const client = new Client(
  { name: 'ts', version: '1' },
  { capabilities: { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} }, versionNegotiation: { mode: era === 'modern' ? { pin: '2026-07-28' } : 'legacy' } },
);
client.setRequestHandler('elicitation/create', async r => {
  if (r.params.mode === 'url') return { action: r.params.url === 'https://pages.example/x' && (era === 'modern' || r.params.elicitationId) ? 'accept' : 'decline' };
  return { action: 'accept', content: { name: 'Aiko' } };
});
client.setRequestHandler('sampling/createMessage', async r => ({ model: 'm', role: 'assistant', content: { type: 'text', text: `three after ${[r.params.messages[0].content].flat()[0].text}` } }));
client.setRequestHandler('roots/list', async () => ({ roots: [{ uri: 'file:///work', name: 'work' }] }));
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } }));
const seen = { tools: {}, said: {}, progress: {} };
for (const t of (await client.listTools()).tools) { // all pages
  const server = t.name.split('__')[0];
  seen.tools[server] = (seen.tools[server] ?? 0) + 1;
}
for (const s of servers) {
  const said = async (tool, options) => { seen.said[`${s} ${tool}`] = (await client.callTool({ name: `${s}__${tool}`, arguments: {} }, options)).content[0].text; };
  for (const tool of ['elicit', 'page', 'sample', 'roots']) await said(tool);
  seen.progress[s] = 0;
  await said('steps', { onprogress: () => { seen.progress[s]++; } });
  const stop = new AbortController();
  // given up when the server has it
  await said('wait', { signal: stop.signal, onprogress: () => stop.abort() }).catch(() => { seen.said[`${s} wait`] = 'given up'; });
}
await client.close();
console.log(JSON.stringify(seen));
