// JoinTokens at the gameserver: each refusal has its own error, and the seat's own player always gets back in (S1-11).
import assert from 'node:assert/strict';

import { joinClaims } from '../../docs/recipes/join-token.mjs';
import { chat, config } from './configs.mjs';
import { pause, test, until, withGreenroom } from './harness.mjs';
import { connect, next, refusal } from './players.mjs';

const seatOf = async (greenroom, room, player) =>
  (await greenroom.get(`/v1/rooms/${room}`)).seats.find((seat) => seat.player === player);

for (const transports of [['polling', 'websocket'], ['polling'], ['websocket']]) {
  test(`a token opens one seat for one session, over ${transports.join(' then ')}`, async (t) => {
    const greenroom = await withGreenroom(t, config([chat({ min: 1 })], { reservation: '3s' }));
    const guild = await greenroom.allocate('chat', { key: 'guild:42', players: ['ann', 'bob', 'late'] });
    const other = await greenroom.allocate('chat', { key: 'guild:7', players: ['eve'] });
    const token = (player) => guild.seats.find((seat) => seat.player === player).token;
    const enter = (auth, more = {}) => connect(guild.url, { transports, auth, ...more });
    const refused = async (auth) => (await refusal(guild.url, { transports, auth })).data.code;

    const ann = await enter({ token: token('ann') }, { reconnection: true, reconnectionDelay: 50 });
    t.after(() => ann.disconnect());
    const held = await until('her seat is connected', async () => {
      const seat = await seatOf(greenroom, guild.room, 'ann');
      return seat?.state === 'connected' && seat;
    });

    assert.equal(await refused({ token: token('ann') }), 'token_used', 'another session with her token');
    assert.equal(await refused({ token: token('ann'), pid: 'guessed' }), 'token_used', 'a guessed session');
    assert.equal(await refused({}), 'token_missing');
    assert.equal(await refused({ token: 'nonsense' }), 'token_malformed');
    const [head, claims, signature] = token('bob').split('.');
    const changed = JSON.parse(Buffer.from(claims, 'base64url'));
    changed.seat = held.seat;
    const forged = [head, Buffer.from(JSON.stringify(changed)).toString('base64url'), signature].join('.');
    assert.equal(await refused({ token: forged }), 'token_signature', 'a changed claim');

    // Her connection drops without a word; the stock client comes back with the same token and its session.
    const back = next(ann, 'connect');
    ann.io.engine.close();
    await back;
    const again = await until('her seat is connected again', async () => {
      const seat = await seatOf(greenroom, guild.room, 'ann');
      return seat?.state === 'connected' && seat;
    });
    assert.equal(again.seat, held.seat, 'the same seat');

    // `late` never comes in time: refused by the clock, not by chance.
    const expiresIn = guild.seats[0].expires_at_ms - Date.now();
    await pause(Math.max(0, expiresIn) + 1_100);
    assert.equal(await refused({ token: token('late') }), 'token_expired');

    // Expiry does not touch the one who has the seat.
    const backAgain = next(ann, 'connect');
    ann.io.engine.close();
    await backAgain;

    // A fresh token of the same player takes the seat over, also from another device.
    const fresh = await greenroom.allocate('chat', { key: 'guild:42', players: ['ann'] });
    assert.equal(fresh.room, guild.room);
    assert.equal(fresh.seats[0].seat, held.seat);
    const told = next(ann, 'greenroom:taken_over');
    const device = await enter({ token: fresh.seats[0].token });
    t.after(() => device.disconnect());
    await told;
    ann.disconnect();
    assert.notEqual(other.room, guild.room);
  });
}

test('a token is refused by every other room and server than its own', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 2, rooms: 1 })]));
  const [one, two] = await Promise.all([
    greenroom.allocate('chat', { key: 'one', players: ['ann'] }),
    greenroom.allocate('chat', { key: 'two', players: ['bob'] }),
  ]);
  assert.notEqual(one.server, two.server);
  const wrong = await refusal(two.url, { auth: { token: one.seats[0].token } });
  assert.equal(wrong.data.code, 'wrong_server');
  const ann = await connect(one.url, { auth: { token: one.seats[0].token } });
  ann.disconnect();
});

test('the documented recipe checks a token in a server that is not ours', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 1 })]));
  const room = await greenroom.allocate('chat', { key: 'one', players: ['ann'] });
  const { instance } = await greenroom.get(`/v1/gameservers/${room.server}`);
  const { token } = room.seats[0];
  const here = { control: greenroom.url, fleet: 'chat', instance };
  const claims = await joinClaims(token, here);
  assert.equal(claims.sub, 'ann');
  assert.equal(claims.room, room.room);
  const [head, , signature] = token.split('.');
  const forged = [head, Buffer.from(JSON.stringify({ ...claims, sub: 'eve' })).toString('base64url'), signature].join('.');
  await assert.rejects(joinClaims(forged, here), /token_signature/);
  await assert.rejects(joinClaims(token, { ...here, fleet: 'arena' }), /wrong_fleet/);
  await assert.rejects(joinClaims(token, { ...here, instance: 'chat-other.0' }), /wrong_server/);
  await assert.rejects(joinClaims(token, { ...here, now: claims.exp * 1000 }), /token_expired/);
});
