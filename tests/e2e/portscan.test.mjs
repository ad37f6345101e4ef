// What other machines reach (S1-2): another network namespace scans every port of one in which a control plane, an agent and game
// servers run with their defaults. Only the listener for players answers.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

import { BIN, test, until } from './harness.mjs';
import { runOn, startOn, twoMachines } from './namespaces.mjs';

const PLAYERS = 8701;

/** Prints the open ports of an address as JSON: a connect to each of those named, or to every one. */
const SCAN = `
const net = require('node:net');
const [address, ...named] = process.argv.slice(1);
const open = [], ports = named.length ? named : Array.from({ length: 65535 }, (_, i) => i + 1);
const knock = (port) => new Promise((done) => {
  const socket = net.connect({ host: address, port });
  socket.setTimeout(2000);
  socket.on('connect', () => { open.push(Number(port)); socket.destroy(); });
  socket.on('timeout', () => socket.destroy());
  socket.on('error', () => {});
  socket.on('close', done);
});
const worker = async () => { for (let port; (port = ports.pop());) await knock(port); };
Promise.all(Array.from({ length: 200 }, worker)).then(() => console.log(JSON.stringify(open.sort((a, b) => a - b))));
`;

const scan = async (name, ...args) => JSON.parse(await runOn(name, {}, process.execPath, '-e', SCAN, ...args));

test('from another machine only the listener for players answers unless the configuration says otherwise', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'greenroom-e2e-'));
  const { here, there, why } = await twoMachines(t, folder, ['10.213.0.1/24', '10.213.0.2/24']);
  t.after(() => rm(folder, { recursive: true, force: true }));
  if (why) return t.skip(why);
  const secret = 'E2E_PLAYERS';
  await writeFile(join(folder, 'greenroom.toml'), `
[players]
listen = "0.0.0.0:${PLAYERS}"
secret = "env:${secret}"
audience = "game"
rooms = ["chat"]

[fleets.chat]
kind = "room"
command = ["${BIN}", "example", "chat"]
seats_per_room = 4

[fleets.relay]
kind = "mesh"
command = ["${BIN}", "example", "relay"]
`);
  const env = { ...process.env, GREENROOM_TEST_FOLDER: folder, [secret]: 'x'.repeat(40) };
  const parts = ['control', 'agent'].map((part) =>
    startOn(here, { cwd: folder, env }, BIN, part, '--data-dir', join(folder, part)));
  const said = () => parts.map(({ output }) => output).join('\n---\n');
  await until(() => `both fleets are ready; they said\n${said()}`, async () => {
    const told = JSON.parse(await runOn(here, {}, BIN, '--output', 'json', 'get', 'fleets'));
    return told.fleets.every(({ ready }) => ready === 1);
  }, 60_000);
  const running = [7000, 7001, 8700, PLAYERS];
  assert.deepEqual(await scan(here, '127.0.0.1', ...running.map(String)), running, 'the scan sees what is there');
  assert.deepEqual(await scan(there, '10.213.0.1'), [PLAYERS]);
});
