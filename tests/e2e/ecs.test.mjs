// An agent in a task of Amazon ECS, against fake endpoints of the task: players dial the instance's port (S1-3), the task is protected
// before anybody is promised a place there, and until nobody is (S1-4, S3-5).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

import { arena, config } from './configs.mjs';
import { EcsTask, TASK, THROTTLED } from './ecs-task.mjs';
import { BIN, clear, freePorts, processesOf, test, until } from './harness.mjs';
import { connect } from './players.mjs';
import { run } from './replicas.mjs';

const ADDRESS = '127.0.0.2';

/** A control plane; `begin` starts an agent in a task beside it. */
async function start(t, { min, host = '' }) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  const first = await freePorts(7);
  const containerPorts = [first + 1, first + 2, first + 3];
  const hostPorts = [first + 4, first + 5, first + 6];
  const env = { ...process.env, GREENROOM_TEST_FOLDER: folder, NO_COLOR: '1' };
  const began = [];
  t.after(async () => {
    for (const { child } of began) child.kill('SIGTERM');
    await Promise.all(began.map(({ ended }) => ended));
    await clear(folder);
  });
  const file = path.join(folder, 'greenroom.toml');
  const fleet = arena({ min, max: 3, rooms: 1, seconds: 600, env: ', GREENROOM_ROOM_LINGER_MS = "100"' }).replace('"greenroom"', `"${BIN}"`);
  const text = config([fleet, '[fleets.arena.autoscale]\ncooldown_out = "0s"\ncooldown_in = "1s"\nsettle_in = "0s"\n'], { reservation: '20s' });
  // More ports than the task has: servers take the task's.
  await writeFile(file, text(`${first + 1}-${first + 6}`).replace('[host]\n', `[host]\n${host}`));
  const url = `http://127.0.0.1:${first}`;
  const begin = (args, added) => {
    const part = run(BIN, args, { cwd: folder, env: { ...env, ...added } });
    began.push(part);
    return part;
  };
  const control = begin(['control', '--config', file, '--data-dir', path.join(folder, 'c'), '--listen', `127.0.0.1:${first}`]);
  const call = async (method, where, body) => {
    const headers = body && { 'content-type': 'application/json' };
    const answer = await fetch(url + where, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(65_000) });
    return { status: answer.status, body: await answer.json() };
  };
  await until(() => `control answers; it said\n${control.output}`, async () => (await call('GET', '/v1/hosts')).status === 200, 20_000);
  const beginAgent = (task, ...more) => begin(['--server', url, 'agent', '--config', file, '--data-dir', path.join(folder, 'a'), '--ecs', ...more], task.env);
  const host0 = async () => (await call('GET', '/v1/hosts')).body.hosts?.[0];
  const servers = async () => (await call('GET', '/v1/gameservers')).body.gameservers;
  const allocate = (player) => call('POST', '/v1/fleets/arena/rooms', { players: [player], timeout_ms: 60_000 });
  const cli = async (...words) => (await promisify(execFile)(BIN, ['--server', url, ...words], { env, timeout: 20_000 })).stdout;
  return { folder, call, hostPorts, containerPorts, beginAgent, host: host0, servers, allocate, cli };
}

const bridged = (t, { hostPorts, containerPorts }) => EcsTask.bridged(t, { address: ADDRESS, hostPorts, containerPorts });

test('nobody is promised a place in a task before it is protected, and it stays so until its servers are gone', async (t) => {
  const started = await start(t, { min: 0 });
  const { folder, hostPorts, beginAgent, host, servers, allocate, cli } = started;
  const task = await bridged(t, started);
  task.refuses = THROTTLED;
  const agent = beginAgent(task);
  const said = () => `the agent said\n${agent.output}`;
  await until(said, async () => (await host())?.connected, 20_000);
  const { name, zone, servers_max: most } = await host();
  assert.deepEqual([name, zone, most], [TASK, 'us-west-2d', 3]);

  // ECS does not take the protection: somebody asks for a room, a server starts for it and answers, and is not handed out.
  const asked = performance.now();
  let answered;
  const asking = allocate('ann').then((answer) => {
    answered = { at: performance.now(), ...answer };
  });
  const waits = 'it waits until this host is protected: the task\'s protection cannot be set: ThrottlingException: Rate exceeded';
  await until(said, async () => (await servers()).some(({ state, message }) => state === 'starting' && message === waits), 20_000);
  assert.match(await cli('get', 'hosts'), /ThrottlingException: Rate exceeded/);
  assert.equal(answered, undefined, 'nothing was promised');
  assert.equal(task.protected, false);
  task.refuses = undefined;
  await asking;
  assert.equal(answered.status, 200, JSON.stringify(answered.body));
  const first = task.puts.find(({ enabled }) => enabled);
  assert.ok(first.at > asked && first.at < answered.at, 'protected, and then promised');
  await until('all is well', async () => !(await host()).trouble);

  const [at, port] = answered.body.endpoint.split(':');
  assert.equal(at, ADDRESS, 'the public address of the instance');
  assert.ok(hostPorts.includes(Number(port)), `${port} is none of the host ports ${hostPorts}`);
  const socket = await connect(answered.body.url, { transports: ['websocket'], auth: { token: answered.body.seats[0].token } });
  t.after(() => socket.disconnect());
  const lost = [];
  socket.on('disconnect', (reason) => lost.push(reason));

  // Nothing of this needs the endpoint; that it is gone is told as soon as somebody needs it.
  task.refuses = 'dead';
  const second = await allocate('bob');
  assert.equal(second.status, 200, 'what protects one protects all');
  assert.ok(task.protected);
  task.refuses = undefined;
  assert.deepEqual(lost, []);
  socket.disconnect();
  await until(() => `the servers are gone; ${said()}`, async () => (await servers()).length === 0, 60_000);
  await until(() => `the task may go; ${said()}`, () => !task.protected, 30_000);
  assert.ok(task.puts.length < 10, `ECS was told ${task.puts.length} times`);

  agent.child.kill('SIGTERM');
  await agent.ended;
  assert.equal(agent.child.exitCode, 0);
  const left = (await processesOf(folder)).filter(({ command }) => /example/.test(command ?? ''));
  assert.deepEqual(left, []);
});

test('with --ecs-protect busy a task is protected while somebody is on it, and an idle one may go', async (t) => {
  const started = await start(t, { min: 1 });
  const { beginAgent, host, servers, allocate } = started;
  const task = await bridged(t, started);
  const agent = beginAgent(task, '--ecs-protect', 'busy');
  const said = () => `the agent said\n${agent.output}`;
  await until(said, async () => (await servers()).some(({ state }) => state === 'ready'), 20_000);
  assert.equal(task.protected, false, 'nobody is there');
  const given = (await allocate('ann')).body;
  await until('a promise alone protects it', () => task.protected);
  const socket = await connect(given.url, { transports: ['websocket'], auth: { token: given.seats[0].token } });
  t.after(() => socket.disconnect());
  task.refuses = 'dead';
  socket.disconnect();
  await until(said, async () => /cannot be reached/.test((await host()).trouble), 60_000);
  assert.equal(task.protected, true);
  task.refuses = undefined;
  await until(said, () => !task.protected, 60_000);
  await until('all is well', async () => !(await host()).trouble);
});

test('on Fargate an agent says what to configure instead of guessing, and players dial the name', async (t) => {
  const task = await EcsTask.onFargate(t, '127.0.0.1');
  const unnamed = await start(t, { min: 1 });
  const agent = unnamed.beginAgent(task);
  await agent.ended;
  assert.equal(agent.child.exitCode, 1);
  assert.match(agent.output, /has a network interface of its own, .* \(FARGATE\); set \[host\] public_host to a name/);

  const named = await start(t, { min: 1, host: 'public_host = "{ip}.games.example.com"\n' });
  const again = named.beginAgent(task);
  const [server] = await until(() => `the agent said\n${again.output}`, async () => {
    const servers = await named.servers();
    return servers[0]?.state === 'ready' && servers;
  }, 20_000);
  assert.match(server.endpoint, /^127-0-0-1\.games\.example\.com:\d+$/);
  assert.ok(task.protected);
});
