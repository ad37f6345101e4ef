// Players as a game's client would write them: the published socket.io-client, nothing of ours.
import { io } from 'socket.io-client';

const LATER = 60_000;

/** The next `event` of a socket as its first argument; fails on a refused connection or after `ms`. */
export function next(socket, event, ms = LATER) {
  return new Promise((resolve, reject) => {
    const clear = () => {
      clearTimeout(timer);
      socket.off(event, arrived);
      socket.off('connect_error', refused);
    };
    const arrived = (value) => (clear(), resolve(value));
    const refused = (error) => (clear(), reject(Object.assign(new Error(`refused: ${error.message}`), { data: error.data })));
    const timer = setTimeout(() => (clear(), reject(new Error(`no ${event} within ${ms} ms`))), ms);
    socket.on(event, arrived);
    if (event !== 'connect_error') socket.on('connect_error', refused);
  });
}

/** A connected socket. */
export async function connect(url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  try {
    await next(socket, 'connect');
    return socket;
  } catch (error) {
    socket.disconnect();
    throw error;
  }
}

/** The error of a connection that must be refused: `{ message, data }`. */
export async function refusal(url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  try {
    const first = await Promise.race([
      next(socket, 'connect_error').then((error) => ({ error })),
      next(socket, 'connect').then(() => ({ connected: true }), () => new Promise(() => {})),
    ]);
    if (first.connected) throw new Error('connected, though it had to be refused');
    return { message: first.error.message, data: first.error.data };
  } finally {
    socket.disconnect();
  }
}

/** Lobby, match, game: the nine steps of source 002. Gives the game's socket and what the lobby said. */
export async function play(greenroom, player, { transports, handover = Math.random() * 2000 } = {}) {
  const options = transports ? { transports } : {};
  const lobbyAt = await greenroom.get('/v1/fleets/lobby/endpoint');
  const lobby = await connect(lobbyAt.url, options);
  try {
    const matched = next(lobby, 'matched', 60_000);
    lobby.emit('match', { player });
    const seat = await matched;
    const game = await connect(seat.url, { ...options, reconnection: true, auth: { token: seat.token } });
    setTimeout(() => lobby.disconnect(), handover);
    return { player, game, ...seat };
  } catch (error) {
    lobby.disconnect();
    throw error;
  }
}

/** Runs `count` jobs, at most `width` at once, and gives their results in order. */
export async function all(count, width, job) {
  const results = Array(count);
  let taken = 0;
  const worker = async () => {
    while (taken < count) {
      const mine = taken;
      taken += 1;
      results[mine] = await job(mine);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, worker));
  return results;
}
