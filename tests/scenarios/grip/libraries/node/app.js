// The application with @fanoutio/grip on Node's own HTTP server. Usage: node app.js PORT, with GRIP_URL set.

import http from 'node:http';
import {
  GripInstruct,
  HttpResponseFormat,
  HttpStreamFormat,
  Publisher,
  WebSocketMessageFormat,
  encodeWebSocketEvents,
  getWebSocketContextFromNodeReq,
  isNodeReqWsOverHttp,
} from '@fanoutio/grip';

const publisher = new Publisher(process.env.GRIP_URL);

async function signed(req) {
  const { isSigned } = await publisher.validateGripSig(req.headers['grip-sig']);
  return [200, {}, isSigned ? 'signed' : 'not signed'];
}

async function poll(req, query) {
  const instruct = new GripInstruct(query.get('channel'));
  instruct.setHoldLongPoll(query.has('timeout') ? Number(query.get('timeout')) : undefined);
  if (query.has('status')) instruct.setStatus(Number(query.get('status')));
  return [200, { 'Content-Type': 'text/plain', ...instruct.toHeaders() }, 'nothing yet\n'];
}

async function stream(req, query) {
  const instruct = new GripInstruct(query.get('channel'));
  instruct.setHoldStream();
  if (query.has('keepalive')) instruct.setKeepAlive(':\n\n', Number(query.get('keepalive')));
  return [200, { 'Content-Type': 'text/plain', ...instruct.toHeaders() }, 'opened\n'];
}

async function socket(req) {
  if (!isNodeReqWsOverHttp(req)) return [400, {}, 'no WebSocket events'];
  const context = await getWebSocketContextFromNodeReq(req);
  if (context.isOpening()) context.accept();
  while (context.canRecv()) {
    let message;
    try {
      message = context.recvRaw();
    } catch {
      break; // the client is gone
    }
    if (message === null) {
      context.close(context.closeCode ?? undefined);
      break;
    }
    answer(context, message);
  }
  return [200, context.toHeaders(), encodeWebSocketEvents(context.getOutgoingEvents())];
}

function answer(context, message) {
  if (typeof message !== 'string') {
    context.sendBinary(message);
    return;
  }
  const [word, argument] = message.split(' ');
  switch (word) {
    case 'subscribe':
      context.subscribe(argument);
      context.send(message);
      break;
    case 'unsubscribe':
      context.unsubscribe(argument);
      context.send(message);
      break;
    case 'detach':
      context.send('detached');
      context.detach();
      break;
    case 'count':
      context.meta.count = String(Number(context.meta.count ?? 0) + 1);
      context.send(context.meta.count);
      break;
    case 'close':
      context.close(argument === undefined ? undefined : Number(argument));
      break;
    default:
      context.send(message);
  }
}

async function publish(req, query) {
  const text = query.get('text');
  const formats =
    query.get('kind') === 'close'
      ? [new HttpStreamFormat(null, true), new WebSocketMessageFormat(null, true, 4100)]
      : [
          new HttpResponseFormat({ body: `${text}\n` }),
          new HttpStreamFormat(`${text}\n`),
          new WebSocketMessageFormat(text),
        ];
  await publisher.publishFormats(query.get('channel'), formats);
  return [200, {}, 'published'];
}

const pages = { '/signed': signed, '/poll': poll, '/stream': stream, '/socket': socket, '/publish': publish };

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, 'http://localhost');
  try {
    const [status, headers, body] = await (pages[url.pathname] ?? (async () => [404, {}, 'no such page']))(
      req,
      url.searchParams,
    );
    res.writeHead(status, headers);
    res.end(body);
  } catch (error) {
    console.error(error);
    res.writeHead(500);
    res.end(String(error));
  }
});
server.listen(Number(process.argv[2]), '127.0.0.1');
