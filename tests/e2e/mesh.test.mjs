// A mesh on two hosts (S3-7): servers that could not hear each other are not started, and it is said why.
import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { BIN, clear, freePorts, test, until } from './harness.mjs';
import { run } from './replicas.mjs';

test('servers of a mesh are kept on one host, and told apart only where they need not hear each other', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  const first = await freePorts(5);
  const url = `http://127.0.0.1:${first}`;
  const env = { ...process.env, GREENROOM_TEST_FOLDER: folder };
  t.after(async () => {
    await clear(folder);
  });
  const board = (spread) => `
[host]
ports = "${first + 1}-${first + 4}"

[fleets.board]
kind = "mesh"
command = ["${BIN}", "example", "whiteboard"]
replicas_min = 3
replicas_max = 3
${spread}`;
  const control = async (spread) => {
    const file = path.join(folder, 'control.toml');
    await writeFile(file, board(spread));
    const args = ['control', '--config', file, '--listen', `127.0.0.1:${first}`, '--data-dir', path.join(folder, 'control')];
    return run(BIN, args, { cwd: folder, env });
  };
  const servers = async () => (await (await fetch(`${url}/v1/gameservers`)).json()).gameservers;
  const fleet = async () => (await (await fetch(`${url}/v1/fleets`)).json()).fleets[0];

  let leader = await control('');
  for (const [i, host] of ['h1', 'h2'].entries()) {
    const file = path.join(folder, `${host}.toml`);
    // Two places on each host, so three servers do not fit on one.
    await writeFile(file, `[host]\nname = "${host}"\nports = "${first + 1 + 2 * i}-${first + 2 + 2 * i}"\n`);
    run(BIN, ['--server', url, 'agent', '--config', file, '--data-dir', path.join(folder, host)], { cwd: folder, env });
  }
  const said = () => `\n${leader.output.slice(-3000)}`;
  await until(() => `two servers are ready and the third waits; control said${said()}`, async () => {
    const { ready, waiting_on } = await fleet().catch(() => ({}));
    return ready === 2 && waiting_on.some((why) => why.includes('without a place on host h') && why.includes('GREENROOM_REDIS'));
  }, 40_000);
  const hosts = new Set((await servers()).map(({ host }) => host));
  assert.equal(hosts.size, 1, 'both on one host');

  leader.child.kill('SIGTERM');
  await leader.ended;
  leader = await control('spread = "host"');
  await until(() => `the third is on the other host; control said${said()}`, async () => {
    const all = await servers().catch(() => []);
    return all.length === 3 && new Set(all.map(({ host }) => host)).size === 2;
  }, 40_000);
});
