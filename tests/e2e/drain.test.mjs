// A zone is taken out of use under load (S2-27): nothing new there, nobody is disturbed, and it is empty in the end.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { io } from 'socket.io-client';

import { BIN, test, until } from './harness.mjs';
import { Callers, Replicas } from './replicas.mjs';

const greenroom = async (replica, ...args) => {
  const { stdout } = await promisify(execFile)(BIN, ['--server', replica.url, ...args], { timeout: 20_000 });
  return stdout;
};

test('a zone is drained under load, over a change of the leader, and given back', async (t) => {
  const replicas = await Replicas.start(t, { replicas: ['a', 'b'], zones: { h1: 'east', h2: 'west' } });
  const servers = async () => (await replicas.call('GET', '/v1/gameservers')).body.gameservers;
  const hostOf = new Map((await servers()).map(({ name, host }) => [name, host]));
  // Somebody plays in the zone that goes.
  let held;
  for (let nth = 0; !held; nth += 1) {
    const labels = { zone: 'east' };
    const { status, body } = await replicas.allocate({ key: `guild:${nth}`, players: ['ann'], select: { labels } });
    assert.equal(status, 200, JSON.stringify(body));
    if (hostOf.get(body.server) === 'h1') held = body;
  }
  const socket = io(held.url, { auth: { token: held.seats[0].token }, transports: ['websocket'], reconnection: false });
  t.after(() => socket.close());
  const lost = [];
  socket.on('disconnect', (reason) => lost.push(reason));
  await until('ann is in', () => socket.connected);
  const callers = new Callers(replicas, ['party:1', 'party:2']);
  await callers.begin();

  const told = await greenroom(replicas.replicas[1], 'drain', 'zone', 'east', '--reason', 'new switches');
  assert.match(told, /zone east is drained: nothing new there/);
  const from = callers.made.size;
  const { before } = { before: await replicas.leader() };
  replicas.kill(before.replica);
  replicas.startReplica(before.replica);
  await until('the idle servers of the zone are gone, and replaced', async () => {
    const all = await servers();
    const east = all.filter(({ host, state }) => host === 'h1' && state !== 'stopped');
    return east.every(({ rooms }) => rooms > 0) && all.filter(({ host, state }) => host === 'h2' && ['ready', 'reserved', 'allocated'].includes(state)).length >= 5;
  }, 60_000);
  assert.ok((await servers()).some(({ name }) => name === held.server), 'the busy one runs on');
  await until('rooms were made meanwhile', () => callers.made.size > from + 20);
  await callers.end();
  assert.deepEqual([callers.failed.existing, callers.failed.fresh], [[], []]);
  // The first of them may have been under way when the order came.
  const late = [...callers.made.values()].slice(from + 2).map(({ server }) => hostOf.get(server) ?? 'h2');
  assert.ok(late.length > 0 && !late.includes('h1'), 'nothing new in the zone');
  assert.deepEqual([socket.connected, lost], [true, []], 'nobody was disturbed');
  assert.match(await greenroom(replicas.replicas[1], 'get', 'hosts'), /h1 .*east.*zone east, by anonymous: new switches/);
  const { body: { entries } } = await replicas.call('GET', '/v1/audit');
  assert.ok(entries.some(({ action, subject, reason }) => action === 'drained' && subject === 'zone east' && reason === 'new switches'));
  assert.ok(entries.every(({ action, busy }) => action !== 'server_stopped' || !busy), 'no busy one was stopped');

  assert.match(await greenroom(replicas.replicas[1], 'drain', 'zone', 'east', '--undo'), /in use again/);
  await until('the zone takes rooms again', async () => {
    const { status, body } = await replicas.allocate({ players: ['bob'], select: { labels: { zone: 'east' } } });
    return status === 200 && body.server === held.server;
  });
});
