// A server by the TypeScript SDK: node whole-server.mjs legacy|modern
// prints its address, then "cancelled" for each call of wait that was; ends with its input.
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { McpServer, createMcpHandler, inputRequired } from '@modelcontextprotocol/server';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';

const era = process.argv[2];
const say = text => ({ content: [{ type: 'text', text }] });
const form = { message: 'your name?', requestedSchema: { type: 'object', properties: { name: { type: 'string' } } } };
const sample = { maxTokens: 10, messages: [{ role: 'user', content: { type: 'text', text: 'count to three' } }] };
const factory = () => {
  const mcp = new McpServer({ name: 'whole', version: '1' }, { capabilities: { tools: { listChanged: true } } });
  const ask = (name, request, legacy, read) => mcp.registerTool(name, {}, async ctx => {
    if (era === 'legacy') return say(read(await legacy(ctx)));
    const got = ctx.mcpReq.inputResponses?.q;
    return got ? say(read(got)) : inputRequired({ inputRequests: { q: request }, requestState: 's' });
  });
  ask('elicit', inputRequired.elicit(form), ctx => ctx.mcpReq.elicitInput({ mode: 'form', ...form }), r => `${r.action} ${r.content.name}`);
  const page = { message: 'look at this', url: 'https://pages.example/x' };
  ask('page', inputRequired.elicitUrl(page), ctx => ctx.mcpReq.elicitInput({ mode: 'url', elicitationId: randomUUID(), ...page }), r => r.action);
  ask('sample', inputRequired.createMessage(sample), ctx => ctx.mcpReq.requestSampling(sample), r => `${r.model} says ${[r.content].flat()[0].text}`);
  ask('roots', inputRequired.listRoots(), () => mcp.server.listRoots(), r => `${r.roots.length} roots, ${r.roots[0].uri}`);
  mcp.registerTool('steps', {}, async ctx => {
    for (let i = 0; i < 5; i++) {
      await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken: ctx.mcpReq._meta.progressToken, progress: i, total: 5 } });
    }
    return say('done');
  });
  mcp.registerTool('wait', {}, async ctx => {
    console.log('waiting');
    const progressToken = ctx.mcpReq._meta?.progressToken;
    if (progressToken !== undefined) await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 0 } });
    await new Promise(done => ctx.mcpReq.signal.addEventListener('abort', done));
    console.log('cancelled');
    return say('over');
  });
  for (let i = 0; i < 300; i++) mcp.registerTool(`t${i}`, {}, async () => say('t'));
  return mcp;
};
const sessions = new Map();
const legacy = async (req, res) => {
  let transport = sessions.get(req.headers['mcp-session-id']);
  if (!transport) {
    transport = new NodeStreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, onsessioninitialized: id => { sessions.set(id, transport); } });
    await factory().connect(transport);
  }
  await transport.handleRequest(req, res);
};
const http = createServer(era === 'modern' ? toNodeHandler(createMcpHandler(factory, { legacy: 'reject' })) : legacy);
http.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
process.stdin.on('end', () => process.exit(0)).resume();
