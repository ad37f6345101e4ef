// What other machines reach (S1-2): another network namespace scans every port of one in which a control plane, an agent and game
// servers run with their defaults. Only the listener for players answers.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

import { BIN, processesOf, test, until } from './harness.mjs';

const exec = promisify(execFile);
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

/** Two namespaces with a wire between them, or why there are none. */
async function namespaces(t) {
  const [here, there] = [`grh${process.pid}`, `grt${process.pid}`];
  const ip = (...args) => exec('ip', args);
  t.after(async () => {
    for (const name of [here, there]) await ip('netns', 'del', name).catch(() => {});
  });
  try {
    for (const name of [here, there]) await ip('netns', 'add', name);
    await ip('link', 'add', `v${here}`, 'netns', here, 'type', 'veth', 'peer', 'name', `v${there}`, 'netns', there);
    for (const [name, address] of [[here, '10.213.0.1/24'], [there, '10.213.0.2/24']]) {
      await ip('-n', name, 'addr', 'add', address, 'dev', `v${name}`);
      await ip('-n', name, 'link', 'set', 'lo', 'up');
      await ip('-n', name, 'link', 'set', `v${name}`, 'up');
    }
    return { here, there };
  } catch (error) {
    return { why: error.code === 'ENOENT' ? 'the command `ip` is missing: apt-get install iproute2' : (error.stderr ?? error.message).trim() };
  }
}

const inside = (name, program, ...args) => ['ip', ['netns', 'exec', name, program, ...args]];

const scan = async (name, ...args) =>
  JSON.parse((await exec(...inside(name, process.execPath, '-e', SCAN, ...args), { maxBuffer: 1 << 24 })).stdout);

test('from another machine only the listener for players answers unless the configuration says otherwise', async (t) => {
  const { here, there, why } = await namespaces(t);
  if (why) {
    // Where it can be proven it must be: the tests of CI run as root.
    assert.ok(!process.env.CI && process.getuid() !== 0, `network namespaces cannot be made here: ${why}`);
    return t.skip(`NOT PROVEN: network namespaces cannot be made by this user: ${why}`);
  }
  const folder = await mkdtemp(join(tmpdir(), 'greenroom-e2e-'));
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
  const parts = ['control', 'agent'].map((part) => {
    const [program, args] = inside(here, BIN, part, '--data-dir', join(folder, part));
    const child = spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const run = { output: '' };
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (run.output += chunk));
    return run;
  });
  t.after(async () => {
    for (const { pid } of await processesOf(folder)) process.kill(pid, 'SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });
  const said = () => parts.map(({ output }) => output).join('\n---\n');
  await until(() => `both fleets are ready; they said\n${said()}`, async () => {
    const { stdout } = await exec(...inside(here, BIN, '--output', 'json', 'get', 'fleets'));
    return JSON.parse(stdout).fleets.every(({ ready }) => ready === 1);
  }, 60_000);
  const running = [7000, 7001, 8700, PLAYERS];
  assert.deepEqual(await scan(here, '127.0.0.1', ...running.map(String)), running, 'the scan sees what is there');
  assert.deepEqual(await scan(there, '10.213.0.1'), [PLAYERS]);
});
