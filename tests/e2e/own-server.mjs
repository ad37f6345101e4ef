// A gameserver that is not ours: the npm Socket.IO server with the two recipes of docs/. Started by own-server.test.mjs.
import { Server } from 'socket.io';

import { joinClaims } from '../../docs/recipes/join-token.mjs';
import { link } from '../../docs/recipes/link.mjs';

const { PORT, GREENROOM_BIND, GREENROOM_CONTROL, GREENROOM_FLEET, GREENROOM_INSTANCE } = process.env;
const rooms = new Map(); // room id -> { room, epoch, key, seats: [] }
const used = new Set();
const io = new Server(Number(PORT), { host: GREENROOM_BIND, cors: { origin: '*' } });
const agent = link(() => ({ connections: io.engine.clientsCount, rooms: [...rooms.values()] }));

io.use(async (socket, next) => {
  try {
    const here = { control: GREENROOM_CONTROL, fleet: GREENROOM_FLEET, instance: GREENROOM_INSTANCE };
    socket.data = await joinClaims(socket.handshake.auth.token, here);
    if (used.has(socket.data.jti)) throw new Error('token_used');
    used.add(socket.data.jti);
    next();
  } catch (error) {
    next(error);
  }
});

io.on('connection', (socket) => {
  const { room: id, epoch, key, seat, sub: player } = socket.data;
  const room = rooms.get(id) ?? { room: id, epoch, key, seats: [] };
  rooms.set(id, room);
  room.seats.push({ seat, player, phase: 'connected' });
  socket.join(id);
  agent.report();
  socket.on('say', (text) => io.to(id).emit('said', { player, text }));
  socket.on('finish', (result) => {
    rooms.delete(id);
    agent.roomEnded(id, epoch, result);
  });
  socket.on('disconnect', () => {
    room.seats = room.seats.filter((other) => other.seat !== seat);
    agent.report();
  });
});

process.on('SIGTERM', () => io.close(() => process.exit(0)));
