// What is killed with SIGKILL, and what nobody notices of it (S0-4, S1-9, DESIGN section 2).
import assert from 'node:assert/strict';
import process from 'node:process';

import { arena, config, lobby } from './configs.mjs';
import { groupBy, isAlive, pause, test, until, withGreenroom } from './harness.mjs';
import { all, connect, next } from './players.mjs';
import { Webhook } from './webhook.mjs';

const ROOMS = 50;

/** Fifty rooms of four, everybody connected, each socket counting the ticks it sees and its disconnects. */
async function fiftyRooms(t, greenroom) {
  const rooms = await all(ROOMS, 10, async (i) => {
    const room = await greenroom.allocate('arena', { key: `match-${i}`, players: [0, 1, 2, 3].map((s) => `p${i}-${s}`) });
    const sockets = await all(4, 4, (s) =>
      connect(room.url, { transports: ['websocket'], auth: { token: room.seats[s].token } }));
    const seen = { ticks: 0, drops: [] };
    for (const socket of sockets) {
      socket.on('disconnect', (reason) => seen.drops.push(reason));
      t.after(() => socket.disconnect());
    }
    sockets[0].onAny(() => (seen.ticks += 1));
    return { ...room, sockets, seen };
  });
  await until('control sees all of them', async () => (await connectedSeats(greenroom)) === ROOMS * 4);
  return rooms;
}

/** How many seats of the arena have their player there; a reserved seat is none of them. */
async function connectedSeats(greenroom) {
  const { rooms } = await greenroom.get('/v1/rooms?fleet=arena&limit=1000');
  return rooms.flatMap(({ seats }) => seats).filter(({ state }) => state === 'connected').length;
}

test('kill -9 of control disconnects nobody, and everything is back soon after its restart', async (t) => {
  const webhook = await Webhook.start(t);
  const greenroom = await withGreenroom(
    t, config([lobby(1), arena({ min: 4, max: 6, seconds: 600 })], { webhook: webhook.url, reservation: '5m' }));
  const rooms = await fiftyRooms(t, greenroom);
  const before = await greenroom.get('/v1/rooms?fleet=arena&limit=1000');

  const [reserved] = await Promise.all([
    greenroom.allocate('arena', { key: 'just-before', players: ['lucky'] }),
  ]);
  await pause(100);
  const victim = await greenroom.controlPid();
  process.kill(victim, 'SIGKILL');
  const ticksThen = rooms.map(({ seen }) => seen.ticks);

  // The reservation is honoured by the gameserver though control is dead.
  const lucky = await connect(reserved.url, { auth: { token: reserved.seats[0].token } });
  t.after(() => lucky.disconnect());
  await until('every room ticks on', () => rooms.every(({ seen }, i) => seen.ticks > ticksThen[i] + 10));

  await until('control answers again', async () => (await greenroom.get('/livez', { raw: true })).status === 200);
  const answering = Date.now();
  await until('every room and player is back', async () => {
    const { totals } = await greenroom.overview();
    return totals.rooms === ROOMS + 1 && (await connectedSeats(greenroom)) === ROOMS * 4 + 1;
  });
  const tookMs = Date.now() - answering;
  t.diagnostic(`everything was back ${tookMs} ms after control answered`);
  // The goal is 2 s, which is `rebuilt` of the SLOs; an agent that dialled a moment too early waits up to 2 s before it does again.
  assert.ok(tookMs <= 10_000, `everything is back soon, it took ${tookMs} ms`);

  const after = await greenroom.get('/v1/rooms?fleet=arena&limit=1000');
  const shape = (list) =>
    list.rooms.filter(({ key }) => key !== 'just-before')
      .map(({ room, key, server, seats }) => ({ room, key, server, seats }))
      .sort((a, b) => a.room.localeCompare(b.room));
  assert.deepEqual(shape(after), shape(before));
  const same = await greenroom.allocate('arena', { key: 'match-7', players: ['p7-2'] });
  assert.equal(same.room, rooms[7].room, 'the key still names the same room');
  assert.equal((await greenroom.allocate('arena', { key: 'just-before', players: ['lucky'] })).room, reserved.room);
  assert.deepEqual(rooms.flatMap(({ seen }) => seen.drops), [], 'nobody was disconnected');
});

test('a result that control could not deliver before it was killed is delivered once after it', async (t) => {
  const webhook = await Webhook.start(t, { failures: 4 });
  const greenroom = await withGreenroom(
    t, config([lobby(1), arena({ min: 1, max: 1 })], { webhook: webhook.url }));
  const room = await greenroom.allocate('arena', { players: ['ann', 'bob', 'cat', 'dan'] });
  const players = await all(4, 4, (i) => connect(room.url, { auth: { token: room.seats[i].token } }));
  t.after(() => players.forEach((player) => player.disconnect()));
  const podium = next(players[0], 'podium');
  const giveUp = setInterval(() => players.forEach((player) => player.emit('concede')), 200);
  await podium.finally(() => clearInterval(giveUp));
  players.forEach((player) => player.disconnect()); // finished and left by all: the room is over at once
  await until('the webhook has refused the result once', () => webhook.requests >= 1, 30_000);
  process.kill(await greenroom.controlPid(), 'SIGKILL');
  await until('the result is stored', () => webhook.stored.size === 1, 60_000);
  assert.equal([...webhook.stored.values()][0].room, room.room);
  await until('nothing is pending', async () => (await greenroom.overview()).totals.results_pending === 0);
  assert.equal(webhook.stored.size, 1);
});

test('kill -9 of a gameserver: its rooms are lost with a reason, the fleet refills, the rest go on', async (t) => {
  const webhook = await Webhook.start(t);
  const greenroom = await withGreenroom(
    t, config([lobby(1), arena({ min: 4, max: 6, seconds: 600 })], { webhook: webhook.url }));
  const rooms = await fiftyRooms(t, greenroom);
  const servers = groupBy(rooms, ({ server }) => server);
  const [name, hit] = [...servers][0];
  const untouched = rooms.filter(({ server }) => server !== name);
  assert.ok(untouched.length > 0, 'the rooms are on several servers');

  const { pid } = await greenroom.get(`/v1/gameservers/${name}`);
  process.kill(pid, 'SIGKILL');
  await until('its rooms are told as lost', async () => {
    const list = await Promise.all(hit.map(({ room }) => greenroom.get(`/v1/rooms/${room}`)));
    return list.every(({ phase, ended }) => phase === 'ended' && ended === 'server_lost');
  });
  await until('the back end is told so', () =>
    hit.every(({ room }) => [...webhook.stored.values()].some((r) => r.room === room && r.reason === 'server_lost')));
  await until('the fleet is whole again', async () => {
    const { fleets } = await greenroom.get('/v1/fleets');
    const fleet = fleets.find((f) => f.name === 'arena');
    return fleet.ready >= 4 && fleet.waiting_on.length === 0;
  });
  const anew = await greenroom.allocate('arena', { key: hit[0].key, players: ['back'] });
  assert.notEqual(anew.room, hit[0].room, 'the key gives a new room');
  const refusedAt = untouched.map(({ seen }) => seen.ticks);
  await until('the others tick on', () => untouched.every(({ seen }, i) => seen.ticks > refusedAt[i] + 10));
  assert.deepEqual(untouched.flatMap(({ seen }) => seen.drops), [], 'nobody else was disconnected');
  assert.ok(!isAlive(pid));
});
