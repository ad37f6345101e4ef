// The reference: stock socket.io with the Redis Streams adapter and connection state recovery, as its documentation shows.
// Answers the relay's events, so that the same run goes against both. Arguments: port, Redis URL, window in ms.
import { createServer } from 'node:http';
import process from 'node:process';

import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [port, url, window] = process.argv.slice(2);
const redis = createClient({ url });
redis.on('error', (error) => console.error(String(error)));
await redis.connect();
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(redis),
  connectionStateRecovery: { maxDisconnectionDuration: Number(window), skipMiddlewares: true },
});
const rooms = (socket) => [...socket.rooms].filter((room) => room !== socket.id);
io.on('connection', (socket) => {
  socket.on('all', (...payload) => io.emit('all', ...payload));
  socket.on('pos', (...payload) => socket.to(rooms(socket)).emit('pos', ...payload));
  socket.on('join', (room, done) => {
    rooms(socket).forEach((left) => socket.leave(left));
    socket.join(room);
    done?.(room);
  });
  socket.on('set', (data, done) => {
    socket.data = data;
    done?.();
  });
  socket.on('get', (done) => done({ id: socket.id, data: socket.data, rooms: rooms(socket), recovered: socket.recovered }));
});
process.on('SIGTERM', () => io.close());
http.listen(Number(port), '127.0.0.1');
