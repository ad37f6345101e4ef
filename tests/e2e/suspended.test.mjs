// A phone in a pocket (L-11): its client is frozen for longer than the server waits for an answer, and thaws. Meanwhile it counts as
// away, not as gone; then it hears all it missed, and where that cannot be it is given the whole state instead.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import { chat, config } from './configs.mjs';
import { pause, test, until, withGreenroom } from './harness.mjs';

/** Longer than the 45 s after which a server gives up a client that does not answer, shorter than the 2 min that sessions are kept. */
const FROZEN_MS = 90_000;

function suspendable(t, url, token) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('suspended-client.mjs', import.meta.url)), url, token], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const told = [];
  let begun = '';
  child.stdout.on('data', (chunk) => {
    const lines = (begun + chunk).split('\n');
    begun = lines.pop();
    told.push(...lines.map((line) => JSON.parse(line)));
  });
  return { child, told, of: (what) => told.filter((one) => what in one).map((one) => one[what]) };
}

test('a client that is frozen for 90 s is away meanwhile, and back and whole when it thaws', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ recovery: '2m' })], {}));
  const players = ['ann', 'eve', 'bob'];
  const { room, seats, url } = await greenroom.allocate('chat', { key: 'guild:42', players });
  const token = (name) => seats.find(({ player }) => player === name).token;
  const [ann, eve] = ['ann', 'eve'].map((name) => suspendable(t, url, token(name)));
  const bob = io(url, { auth: { token: token('bob') }, transports: ['websocket'] });
  t.after(() => bob.disconnect());
  const said = [];
  const say = async (text) => {
    said.push(text);
    assert.deepEqual(await bob.emitWithAck('say', text), { ok: true });
  };
  await until('all three are in', () => bob.connected && ann.of('connect').length && eve.of('connect').length);
  await say('before');
  await until('both hear it', () => [ann, eve].every((one) => one.of('line').length === 1));

  for (const { child } of [ann, eve]) child.kill('SIGSTOP');
  const thaws = Date.now() + FROZEN_MS;
  // Eve misses more than a room's History holds, so that she must be given the state; Ann is thawed before that.
  while (Date.now() < thaws) {
    await say(`line ${said.length}`);
    await pause(1_000); // time itself is the fault here
  }
  const { seats: then } = await greenroom.get(`/v1/rooms/${room}`);
  assert.deepEqual(then.filter(({ player }) => player).map(({ player, state }) => `${player} ${state}`), [
    'ann away', 'eve away', 'bob connected',
  ]);

  ann.child.kill('SIGCONT');
  await until(() => `ann is back: ${JSON.stringify(ann.told.slice(-3))}`, () => ann.of('connect').length === 2, 20_000);
  await until('ann has all', () => ann.of('line').length === said.length);
  assert.deepEqual(ann.of('line'), said, 'each line once, in order');
  const [first, second] = ann.told.filter((one) => one.connect);
  assert.deepEqual(second, { connect: first.connect, recovered: true });

  const long = 'x'.repeat(490);
  for (let i = 0; i < 200; i += 1) await say(`${i} ${long}`);
  eve.child.kill('SIGCONT');
  await until(() => `eve is back: ${JSON.stringify(eve.told.slice(-3))}`, () => eve.of('connect').length === 2, 20_000);
  await until('eve has the state', () => eve.of('history').at(-1)?.at(-1) === said.at(-1));
  assert.equal(eve.told.filter((one) => one.connect).at(-1).recovered, false);
  assert.deepEqual(eve.of('history').at(-1), said.slice(-50), 'all that the room remembers');
  assert.deepEqual(eve.of('line'), ['before'], 'and no part of what she missed');
});
