// A Node.js server with the official adapter, as a team that moves to Greenroom has it: a process of its own, told by its parent
// what to do on all of the cluster.
import process from 'node:process';

import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [url, options] = process.argv.slice(2);
const client = createClient({ url, socket: { reconnectStrategy: 20 } });
client.on('error', () => {}); // it comes back by itself
await client.connect();
const io = new Server(0, { adapter: createAdapter(client, JSON.parse(options)) });

const serve = (nsp) => {
  nsp.on('connection', (socket) => {
    socket.emit('welcome', { id: socket.id });
    socket.on('join', (room, ack) => {
      socket.join(room);
      ack('joined');
    });
    socket.on('data', (data) => Object.assign(socket.data, data));
  });
  nsp.on('told', (value) => nsp.local.emit('told', { by: 'server', value }));
  nsp.on('who', (value, ack) => ack({ node: false, n: value }));
};
serve(io.of('/'));
serve(io.of('/room-a'));
serve(io.of('/room-empty'));

const reach = ({ nsp = '/', to = [], except = [], volatile = false, timeout }) => {
  let reached = io.of(nsp).to(to).except(except);
  if (volatile) reached = reached.volatile;
  return timeout ? reached.timeout(timeout) : reached;
};

/** When it is with the Redis, which answers in order. */
const said = () => client.ping();

const act = {
  emit: (where, args) => said(reach(where).emit(...args)),
  bytes: (where, bytes) => said(reach(where).emit('bytes', Buffer.from(bytes), { more: new Uint8Array(bytes) })),
  ask: (where, args) => reach(where).emitWithAck(...args)
    .then((answers) => ({ answers }), (error) => ({ answers: error.responses, error: error.message })),
  join: (where, room) => said(reach(where).socketsJoin(room)),
  leave: (where, room) => said(reach(where).socketsLeave(room)),
  disconnect: (where, close) => said(reach(where).disconnectSockets(close)),
  fetch: (where) => reach(where).fetchSockets().then((sockets) => sockets.map(({ id, rooms, data, handshake }) =>
    ({ id, rooms: [...rooms].sort(), data, address: handshake.address, url: handshake.url, query: handshake.query, issued: handshake.issued }))),
  tellServers: ({ nsp = '/' }, value) => said(io.of(nsp).serverSideEmit('told', value)),
  askServers: ({ nsp = '/' }, name) => io.of(nsp).serverSideEmitWithAck(name, 1)
    .then((answers) => ({ answers }), (error) => ({ answers: error.responses, error: error.message })),
  uid: ({ nsp = '/' }) => io.of(nsp).adapter.uid,
  count: ({ nsp = '/' }) => io.of(nsp).adapter.serverCount(),
};
process.on('message', async ({ id, what, where, arg }) => {
  try {
    process.send({ id, result: await act[what](where, arg) });
  } catch (error) {
    process.send({ id, error: String(error?.message ?? error) });
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ port: io.httpServer.address().port });
