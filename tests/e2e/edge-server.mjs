// The npm Socket.IO server as a game server behind the edge: short pings, and it tells who is on it, so that it is not stopped
// under them. Started by edge.test.mjs.
import { Server } from 'socket.io';

import { link } from '../../docs/recipes/link.mjs';

const { PORT, GREENROOM_BIND, GREENROOM_SERVER } = process.env;
const io = new Server(Number(PORT), { host: GREENROOM_BIND, pingInterval: 1_000, pingTimeout: 5_000 });
const agent = link(() => ({ connections: io.engine.clientsCount, rooms: [] }));

io.on('connection', (socket) => {
  agent.report();
  socket.on('who', (reply) => reply(GREENROOM_SERVER));
  socket.on('echo', (value, reply) => reply(value));
});

process.on('SIGTERM', () => io.close(() => process.exit(0)));
