// The main job: lobby, match, game, finish, with 200 players of the published client (S2-1, S2-7, S2-16, S2-32, S0-5, S0-6).
import assert from 'node:assert/strict';

import { arena, config, lobby } from './configs.mjs';
import { groupBy, test, until, withGreenroom } from './harness.mjs';
import { all, next, play } from './players.mjs';
import { Webhook } from './webhook.mjs';

const PLAYERS = 200;

for (const transports of [undefined, ['polling']]) {
  const how = transports ? 'over long-polling alone' : 'with the default transports';
  test(`200 players are matched in fours, play and finish, ${how}`, async (t) => {
    const webhook = await Webhook.start(t, { failures: 3 });
    const greenroom = await withGreenroom(
      t,
      config([lobby(), arena({ min: 4, max: 6, seconds: 20 })], { webhook: webhook.url, reservation: '5m' }),
    );

    const players = await all(PLAYERS, PLAYERS, (i) => play(greenroom, `player-${i}`, { transports }));
    t.after(() => players.forEach(({ game }) => game.disconnect()));

    const rooms = groupBy(players, ({ room }) => room);
    assert.equal(rooms.size, PLAYERS / 4, 'fifty rooms');
    for (const [room, members] of rooms) {
      assert.equal(members.length, 4, `room ${room} has exactly four players`);
      assert.equal(new Set(members.map(({ endpoint }) => endpoint)).size, 1, `room ${room} is on one server`);
      assert.deepEqual(members.map(({ seat }) => seat).sort(), [0, 1, 2, 3], `room ${room}: each seat once`);
    }

    const { rooms: told } = await until('control knows every seat as connected', async () => {
      const list = await greenroom.get('/v1/rooms?fleet=arena&limit=1000');
      const connected = list.rooms.flatMap(({ seats }) => seats).filter(({ state }) => state === 'connected');
      return connected.length === PLAYERS && list;
    });
    for (const { room, server, endpoint, seats } of told) {
      assert.deepEqual(
        seats.map(({ player }) => player).sort(),
        rooms.get(room).map(({ player }) => player).sort(),
        `room ${room} on ${server} has the players that were told so`,
      );
      assert.equal(rooms.get(room)[0].endpoint, endpoint);
    }

    await until('every result is stored', () => webhook.stored.size === PLAYERS / 4, 60_000);
    for (const { event, room, players: seated, reason } of webhook.stored.values()) {
      assert.equal(event, 'room.ended');
      assert.equal(reason, 'finished');
      assert.deepEqual(seated.sort(), rooms.get(room).map(({ player }) => player).sort());
    }
    assert.ok(webhook.requests >= PLAYERS / 4 + 3, 'the three failures were tried again');
    await until('seats and rooms are free again', async () => {
      const { totals } = await greenroom.overview();
      return totals.rooms === 0 && totals.players === 0 && totals.results_pending === 0;
    }, 30_000);
  });
}

test('a party stays together and nobody is matched twice', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), arena({ min: 1, max: 1 })]));
  const file = (tickets) => greenroom.post('/v1/fleets/arena/tickets', { owner: 'test', tickets });
  await file([
    { id: 't-solo', players: ['solo'] },
    { id: 't-trio', players: ['a', 'b', 'c'] },
    { id: 't-pair', players: ['d', 'e'] },
  ]);
  const { body: again } = await file([{ id: 't-other', players: ['a'] }]);
  assert.equal(again.refused[0].code, 'already_assigned');
  const { body } = await greenroom.post('/v1/assignments', { owner: 'test', wait_ms: 10_000 });
  assert.deepEqual(body.assignments.map(({ ticket }) => ticket).sort(), ['t-solo', 't-trio']);
  assert.equal(new Set(body.assignments.map(({ allocation }) => allocation.room)).size, 1);
  const cancelled = await fetch(`${greenroom.url}/v1/tickets/t-pair`, { method: 'DELETE' });
  assert.deepEqual(await cancelled.json(), { outcome: 'cancelled' });
});
