// Tokens and secrets with the real processes: who is let in, and that nothing planted is ever found again.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

import { BIN, test, until, withGreenroom } from './harness.mjs';

const run = promisify(execFile);
const planted = (name) => `${name}-${randomBytes(16).toString('hex')}`;

/** The command line with this token in its environment; never fails, tells how it ended. */
async function greenroom(url, token, ...words) {
  const env = { ...process.env, GREENROOM_TOKEN: token };
  try {
    const { stdout } = await run(BIN, ['--server', url, ...words], { env });
    return { code: 0, text: stdout };
  } catch (error) {
    return { code: error.code, text: error.stderr };
  }
}

/** Every file below `folder`. */
async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

test('tokens let in whom they should, and no token or secret is found in any file, answer or log', async (t) => {
  const [admin, reader, secret] = [planted('admin'), planted('reader'), planted('secret')];
  const place = path.join(os.tmpdir(), `greenroom-e2e-${randomBytes(6).toString('hex')}`);
  await writeFile(place, `${secret}\n`);
  t.after(() => rm(place, { force: true }));
  const config = (ports) => `
[[control.tokens]]
name = "ops"
role = "admin"
from = "env:E2E_ADMIN"

[[control.tokens]]
name = "eyes"
role = "read"
from = "env:E2E_READER"

[host]
ports = "${ports}"

[fleets.chat]
kind = "room"
command = ["greenroom", "example", "chat"]
env = { DB = { from = "file:${place}", version = "1" } }
seats_per_room = 4
replicas_min = 1
replicas_max = 2
`;
  const env = { E2E_ADMIN: admin, E2E_READER: reader, GREENROOM_TOKEN: admin };
  const cluster = await withGreenroom(t, config, { env });
  const { url } = cluster;

  assert.equal((await cluster.get('/v1/fleets', { raw: true })).status, 401);
  const refused = await greenroom(url, '', 'get', 'fleets');
  assert.equal(refused.code, 1);
  assert.match(refused.text, /needs a token[\s\S]*GREENROOM_TOKEN/);
  assert.match((await greenroom(url, reader, 'get', 'fleets')).text, /chat/);
  const denied = await greenroom(url, reader, 'restart', 'chat');
  assert.match(denied.text, /needs the role admin, and the token "eyes" has the role read/);
  assert.match((await greenroom(url, admin, 'allocate', 'chat', '--player', 'ann')).text, /token:/);

  const servers = JSON.parse((await greenroom(url, reader, 'get', 'gameservers', '-o', 'json')).text).gameservers;
  const environ = await readFile(`/proc/${servers[0].pid}/environ`, 'utf8');
  assert.ok(environ.split('\0').includes(`DB=${secret}`), 'the server has its secret');
  assert.ok(!environ.includes('GREENROOM_TOKEN='), "the agent's token is not the server's");

  assert.equal((await greenroom(url, admin, 'restart', 'chat')).code, 0);
  const trail = await until('the restart is in the trail', async () => {
    const told = await greenroom(url, reader, 'audit', '-o', 'json');
    return told.text.includes('fleet_restarted') && told.text;
  });
  assert.equal(JSON.parse(trail).entries.find(({ action }) => action === 'fleet_restarted').who, 'token ops');

  const said = [trail, cluster.output, (await greenroom(url, reader, 'get', 'fleets', '-o', 'json')).text];
  for (const file of await files(cluster.folder)) said.push(await readFile(file, 'latin1'));
  for (const word of [admin, reader, secret]) {
    assert.ok(!said.some((text) => text.includes(word)), `${word.split('-')[0]} is told somewhere`);
  }
  const { text } = await greenroom(url, reader, 'config', 'check', path.join(cluster.folder, 'greenroom.toml'));
  assert.ok(text.includes(`file:${place}`) && !text.includes(secret));
});

test('beyond this machine the control plane does not listen without tokens, and says what to do', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const ended = await greenroom('http://127.0.0.1:1', '', 'control', '--demo', '--data-dir', folder, '--listen', '0.0.0.0:0');
  assert.notEqual(ended.code, 0);
  assert.match(ended.text, /no tokens; add \[\[control\.tokens\]\]/);
});
