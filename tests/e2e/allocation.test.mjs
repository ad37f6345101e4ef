// Allocation under races: one live room per key, seats exact (S1-9, S1-11, S2-16).
import assert from 'node:assert/strict';

import { arena, chat, config, lobby } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';
import { all, connect } from './players.mjs';

test('500 concurrent allocations of one key give one room', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 3, seats: 20 })]));
  const answers = await all(500, 500, (i) =>
    greenroom.allocate('chat', { key: 'guild:race', players: [`p${i % 20}`] }));
  assert.equal(new Set(answers.map(({ room }) => room)).size, 1);
  assert.equal(answers.filter(({ created }) => created).length, 1);
  const seatOf = new Map();
  for (const { seats: [seat] } of answers) {
    assert.equal(seatOf.get(seat.player) ?? seat.seat, seat.seat, `${seat.player} keeps one seat`);
    seatOf.set(seat.player, seat.seat);
  }
  assert.equal(new Set(seatOf.values()).size, 20, 'no seat is sold twice');
  const { status, body } = await greenroom.post('/v1/fleets/chat/rooms', { key: 'guild:race', players: ['one-more'] });
  assert.equal(status, 409);
  assert.equal(body.error.code, 'room_full');
});

test('a thousand no-shows leave every seat free', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 2, seats: 4, rooms: 200 })], { reservation: '20s' }));
  const first = await greenroom.allocate('chat', { key: 'kept', players: ['ann'] });
  const ann = await connect(first.url, { auth: { token: first.seats[0].token } });
  t.after(() => ann.disconnect());
  const rooms = await all(250, 50, (i) =>
    greenroom.allocate('chat', { players: [0, 1, 2, 3].map((seat) => `ghost-${i}-${seat}`) }));
  assert.equal(new Set(rooms.map(({ room }) => room)).size, 250);
  assert.equal((await greenroom.overview()).totals.rooms, 251);
  await until('only the room with a player is left', async () => {
    const { totals } = await greenroom.overview();
    return totals.rooms === 1 && totals.players === 1;
  });
  const { seats } = await greenroom.get(`/v1/rooms/${first.room}`);
  assert.deepEqual(seats.map(({ state }) => state), ['connected', 'free', 'free', 'free']);
  const full = await greenroom.allocate('chat', { key: 'kept', players: ['b', 'c', 'd'] });
  assert.equal(full.room, first.room, 'the freed seats can be had again');
});

test('an idempotency key repeats the answer and refuses another request', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 1 })]));
  const request = { players: ['ann', 'bob'], idempotency_key: 'order-1' };
  const answers = await all(20, 20, () => greenroom.allocate('chat', request));
  for (const answer of answers) assert.deepEqual(answer.seats, answers[0].seats);
  const { status, body } = await greenroom.post('/v1/fleets/chat/rooms', { ...request, players: ['eve'] });
  assert.equal(status, 409);
  assert.equal(body.error.code, 'idempotency_mismatch');
});

test('all of a group get a seat or none does, and demand makes the fleet grow', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), arena({ min: 1, max: 2, rooms: 1 })]));
  const group = (name) => ({ players: [0, 1, 2, 3].map((i) => `${name}-${i}`) });
  const one = await greenroom.allocate('arena', group('a'));
  const two = await greenroom.allocate('arena', group('b'));
  assert.notEqual(one.server, two.server, 'a second server was started for the second room');
  const { status, body } = await greenroom.post('/v1/fleets/arena/rooms', { ...group('c'), timeout_ms: 300 });
  assert.equal(status, 503);
  assert.equal(body.error.code, 'no_capacity');
  assert.equal(body.error.retryable, true);
  const [fleet] = (await greenroom.get('/v1/fleets')).fleets.filter(({ name }) => name === 'arena');
  assert.equal(fleet.replicas, 2, 'never more than replicas_max');
});
