// Players dial names (S0-27, S0-30): in networks that have IPv6 alone, a player finds a game server by the name that it was given, which
// was made of its machine's own address; and no answer of the API has an address in it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { BIN, test, until } from './harness.mjs';
import { runOn, startOn, twoMachines } from './namespaces.mjs';

const exec = promisify(execFile);
const TOKEN = 'an-operator-of-this-test';
const CONTROL = 'http://[fd00:213::1]:8700';

const beside = (file) => fileURLToPath(new URL(file, import.meta.url));

test('a player in a network with IPv6 alone reaches a game server by a name that has its machine in it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'greenroom-e2e-'));
  // IPv6 alone, and a name server on the player's own machine.
  const { here, there, why } = await twoMachines(t, folder, ['fd00:213::1/64', 'fd00:213::2/64']);
  t.after(() => rm(folder, { recursive: true, force: true }));
  if (why) return t.skip(why);
  // `ip netns exec` lays it over the system's.
  const own = join('/etc/netns', there);
  t.after(() => rm(own, { recursive: true, force: true }));
  await mkdir(own, { recursive: true });
  await writeFile(join(own, 'resolv.conf'), 'nameserver ::1\n');
  await writeFile(join(folder, 'greenroom.toml'), `
[control]
listen = "[fd00:213::1]:8700"

[[control.tokens]]
name = "ops"
role = "admin"
from = "env:OPS"

[host]
public_host = "{ip}.games.test"

[fleets.chat]
kind = "room"
command = ["${BIN}", "example", "chat"]
seats_per_room = 4
`);
  const env = { ...process.env, GREENROOM_TEST_FOLDER: folder, OPS: TOKEN, GREENROOM_TOKEN: TOKEN };
  const start = (name, ...words) => startOn(name, { cwd: folder, env }, ...words);
  const control = start(here, BIN, 'control', '--data-dir', join(folder, 'control'));
  const agent = start(here, BIN, '--server', CONTROL, 'agent', '--data-dir', join(folder, 'agent'));
  const names = start(there, process.execPath, beside('dns.mjs'));
  const ask = async (...args) =>
    JSON.parse(await runOn(here, { cwd: folder, env }, BIN, '--server', CONTROL, '--output', 'json', ...args));
  const said = () => [control, agent, names].map(({ output }) => output.slice(-2000)).join('\n---\n');
  await until(() => `the fleet is ready; they said\n${said()}`, async () =>
    (await ask('get', 'fleets').catch(() => ({ fleets: [{ ready: 0 }] }))).fleets.every(({ ready }) => ready === 1), 60_000);
  await until(() => `the name server is there: ${names.output}`, () => names.output.includes('ready'));

  const room = await ask('allocate', 'chat', '--player', 'ann');
  const told = JSON.stringify([room, await ask('get', 'servers'), await ask('get', 'rooms')]);
  assert.match(room.endpoint, /^fd00-213--1\.games\.test:70\d\d$/);
  assert.doesNotMatch(told, /"[^"]*(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\])(:\d+)?"/, 'no address is told to anybody');
  const ann = start(there, process.execPath, beside('suspended-client.mjs'), room.url, room.seats[0].token);
  await until(() => `ann is in; she told ${ann.output}; they said\n${said()}`, () => ann.output.includes('"connect"'));
});

test('an address that others dial is refused unless it is allowed', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'greenroom-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const check = async (host) => {
    const file = join(folder, 'greenroom.toml');
    await writeFile(file, `[host]\n${host}\n`);
    return exec(BIN, ['config', 'check', file]).then(() => 'taken', ({ code, stderr }) => `${code}: ${stderr}`);
  };
  assert.equal(await check('public_host = "203.0.113.7"\nallow_ip = true'), 'taken');
  assert.equal(await check('public_host = "127.0.0.1"'), 'taken');
  for (const address of ['203.0.113.7', '[2001:db8::1]']) {
    const told = await check(`public_host = "${address}"`);
    assert.match(told, /^64: /);
    assert.ok(told.includes('players on networks with IPv6 alone') && told.includes('allow_ip = true'), told);
  }
});
