// `greenroom dev` as a newcomer meets it: clean start, clean end, recovery after its own kill -9 (S0-16, S3-6).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

import { arena, chat, config, lobby } from './configs.mjs';
import { BIN, freePorts, isAlive, processesOf, test, until, withGreenroom } from './harness.mjs';
import { connect } from './players.mjs';

const run = (args, options = {}) =>
  promisify(execFile)(BIN, args, { timeout: 20_000, ...options }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
  );

test('Ctrl-C leaves no process, no port and no file outside its folder', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), chat({ min: 1 })]));
  const { gameservers } = await greenroom.get('/v1/gameservers');
  assert.ok(gameservers.length >= 2);
  const pids = (await processesOf(greenroom.folder)).map(({ pid }) => pid);
  assert.ok(pids.length >= 5, 'dev, control, agent and two gameservers');
  const began = Date.now();
  assert.equal(await greenroom.interrupt(), 0, greenroom.output);
  t.diagnostic(`ended in ${Date.now() - began} ms`);
  assert.deepEqual(await processesOf(greenroom.folder), []);
  assert.deepEqual(pids.filter(isAlive), []);
  const ports = [greenroom.port, ...gameservers.map(({ endpoint }) => Number(endpoint.split(':')[1]))];
  for (const port of ports) {
    await assert.rejects(fetch(`http://127.0.0.1:${port}/`), `port ${port} is closed`);
  }
  assert.deepEqual((await readdir(greenroom.folder)).sort(), ['.greenroom', 'greenroom.toml']);
});

test('after a kill -9 of dev the next one adopts or clears what it finds', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), chat({ min: 1 })]));
  const room = await greenroom.allocate('chat', { key: 'guild:1', players: ['ann'] });
  const ann = await connect(room.url, { auth: { token: room.seats[0].token } });
  t.after(() => ann.disconnect());
  const before = await greenroom.controlPid();
  const ended = once(greenroom.dev, 'exit');
  greenroom.dev.kill('SIGKILL');
  await ended;
  await greenroom.up();
  await until('the old control and agent are replaced', async () => {
    const processes = await processesOf(greenroom.folder);
    const those = (word) => processes.filter(({ command }) => command.includes(word));
    const [control, ...more] = those(' control');
    return control && control.pid !== before && more.length === 0 && those(' dev ').length === 1 && those(' agent').length === 1;
  });
  await until('the new one is ready', async () => (await greenroom.get('/readyz', { raw: true })).status === 200);
  const again = await greenroom.allocate('chat', { key: 'guild:1', players: ['ann'] });
  assert.equal(again.room, room.room, 'the room that was played in is still the one');
  assert.ok(ann.connected, 'its player was not disconnected');
  assert.equal(await greenroom.interrupt(), 0, greenroom.output);
  assert.deepEqual(await processesOf(greenroom.folder), []);
});

test('a second dev in the same folder is refused and names the first', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1)]));
  const second = await run(['dev', '--port', String(greenroom.port)], { cwd: greenroom.folder });
  assert.notEqual(second.code, 0);
  assert.match(second.stderr + second.stdout, new RegExp(String(greenroom.dev.pid)));
});

test('a port that is taken is told with what to do', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1)]));
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const other = await run(['dev', '--port', String(greenroom.port)], { cwd: folder });
  assert.notEqual(other.code, 0);
  assert.match(other.stderr, new RegExp(`${greenroom.port}`));
  assert.match(other.stderr, /--port/);
});

test('a fleet whose runtime is missing is skipped aloud, the others run', async (t) => {
  const missing = '[fleets.legacy]\nkind = "mesh"\ncommand = ["no-such-runtime-here", "server.js"]\nreplicas_min = 1\nreplicas_max = 1\n';
  const greenroom = await withGreenroom(t, config([lobby(1), missing]));
  assert.match(greenroom.output, /legacy.*no-such-runtime-here/s);
  const { fleets } = await greenroom.get('/v1/fleets');
  assert.deepEqual(fleets.map(({ name }) => name), ['lobby']);
});

test('a broken configuration is told whole, with lines, and exit code 64', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(path.join(folder, 'greenroom.toml'), [
    '[host]', 'ports = "9000-8000"', '[fleets.arena]', 'kind = "romm"', 'comand = ["x"]', 'replicas_min = 9',
    'replicas_max = 2', '',
  ].join('\n'));
  const { code, stderr } = await run(['dev'], { cwd: folder });
  assert.equal(code, 64, stderr);
  for (const line of [2, 4, 5, 6]) assert.match(stderr, new RegExp(`greenroom\\.toml:${line}:`), stderr);
  assert.match(stderr, /comand.*command/, 'the misspelt key is recognised');
  assert.deepEqual(await readdir(folder), ['greenroom.toml'], 'nothing was begun');
});

test('the commands a README shows work against it', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), arena({ min: 1, max: 1 })]));
  const cli = (...args) => run(['--server', greenroom.url, ...args]);
  const fleets = await cli('get', 'fleets');
  assert.match(fleets.stdout, /^NAME\s+KIND/m);
  assert.match(fleets.stdout, /^arena\s+room/m);
  const servers = JSON.parse((await cli('get', 'servers', '-o', 'json')).stdout);
  assert.ok(servers.gameservers.some(({ fleet }) => fleet === 'arena'));
  const allocated = await cli('allocate', 'arena', '--player', 'ann', '--key', 'party:1', '-o', 'json');
  assert.equal(JSON.parse(allocated.stdout).seats[0].player, 'ann', allocated.stderr);
  assert.match((await cli('get', 'rooms')).stdout, /party:1/);
  const name = servers.gameservers.find(({ fleet }) => fleet === 'arena').name;
  assert.equal((await cli('logs', name)).code, 0);
  const nobody = await run(['--server', `http://127.0.0.1:${await freePorts(1)}`, 'get', 'fleets']);
  assert.equal(nobody.code, 69);
  assert.match(nobody.stderr, /greenroom dev/, 'it says what to do');
  assert.equal((await cli('allocate', 'nonesuch', '--player', 'ann')).code, 1);
});

