// A server that accepts at once and attaches Socket.IO late: the trap of a TCP or `/` probe. Started by fleet.test.mjs.
import http from 'node:http';
import { Server } from 'socket.io';

const server = http.createServer((_, response) => response.writeHead(200).end('ok'));
server.listen(Number(process.env.PORT), process.env.GREENROOM_BIND);
setTimeout(() => new Server(server), Number(process.env.ATTACH_AFTER_MS));
process.on('SIGTERM', () => process.exit(0));
