// An agent in a Kubernetes pod, against a fake API server: players dial the pod's node (S1-3), and the pod is marked as one that
// must stay while somebody is on it or was promised a place (S1-4).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

import { arena, config } from './configs.mjs';
import { BIN, clear, freePorts, test, until } from './harness.mjs';
import { KubernetesApi } from './kubernetes-api.mjs';
import { all, connect } from './players.mjs';
import { run } from './replicas.mjs';

const POD = 'arena-7d9f8c-x2x4k';
const IDLE = 'false true 0';

/** A control plane, and an agent in the pod. */
async function start(t) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
  const first = await freePorts(5);
  const ports = [first + 1, first + 2, first + 3];
  const api = await KubernetesApi.start(t, { namespace: 'games', pod: POD, node: 'node-a', address: '127.0.0.2', ports });
  const env = { ...process.env, GREENROOM_TEST_FOLDER: folder, NO_COLOR: '1' };
  const began = [];
  t.after(async () => {
    for (const { child } of began) child.kill('SIGTERM');
    await Promise.all(began.map(({ ended }) => ended));
    await clear(folder);
  });
  const file = path.join(folder, 'greenroom.toml');
  const fleet = arena({ min: 0, max: 3, rooms: 1, seconds: 600, env: ', GREENROOM_ROOM_LINGER_MS = "100"' }).replace('"greenroom"', `"${BIN}"`);
  // One port more than the pod has: servers take the pod's.
  const text = config([fleet, '[fleets.arena.autoscale]\ncooldown_out = "0s"\ncooldown_in = "1s"\nsettle_in = "0s"\n'], { reservation: '5s' });
  await writeFile(file, text(`${first + 1}-${first + 4}`));
  await api.writeConfig(path.join(folder, 'kubeconfig'));
  const url = `http://127.0.0.1:${first}`;
  const begin = (args, added) => {
    const part = run(BIN, args, { cwd: folder, env: { ...env, ...added } });
    began.push(part);
    return part;
  };
  const control = begin(['control', '--config', file, '--data-dir', path.join(folder, 'c'), '--listen', `127.0.0.1:${first}`]);
  const call = async (method, where, body) => {
    const headers = body && { 'content-type': 'application/json' };
    const answer = await fetch(url + where, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(35_000) });
    return { status: answer.status, body: await answer.json() };
  };
  await until(() => `control answers; it said\n${control.output}`, async () => (await call('GET', '/v1/hosts')).status === 200, 20_000);
  const beginAgent = () => begin(['--server', url, 'agent', '--config', file, '--data-dir', path.join(folder, 'a'), '--kubernetes'],
    { KUBECONFIG: path.join(folder, 'kubeconfig'), POD_NAME: POD, POD_NAMESPACE: 'games' });
  return { api, call, ports, agent: beginAgent(), beginAgent, url };
}

test('players are sent to the node of the pod, and the pod stays while somebody is on it', async (t) => {
  const { api, call, ports, agent, url } = await start(t);
  const said = () => `the agent said\n${agent.output}`;
  await until(said, async () => (await call('GET', '/v1/hosts')).body.hosts?.[0]?.connected, 20_000);
  const { hosts: [host] } = (await call('GET', '/v1/hosts')).body;
  assert.deepEqual([host.name, host.zone, host.servers_max], [POD, 'eu-1a', 3]);
  await until('the pod is marked idle', () => api.marks() === IDLE);

  const allocate = (player) => call('POST', '/v1/fleets/arena/rooms', { players: [player], timeout_ms: 30_000 });
  const given = (await allocate('ann')).body;
  const [at, port] = given.endpoint.split(':');
  assert.equal(at, '127.0.0.2', 'the external address of the node');
  assert.ok(ports.includes(Number(port)), `${port} is none of the hostPorts ${ports}`);
  await until('a promise alone keeps the pod', () => api.marks().startsWith('true false'), 5_000);
  await until('nobody came, and it may go', () => api.marks() === IDLE, 60_000);

  const lost = [];
  const sockets = await all(3, 3, async (i) => {
    const { status, body: room } = await allocate(`p${i}`);
    assert.equal(status, 200, JSON.stringify(room));
    const socket = await connect(room.url, { transports: ['websocket'], auth: { token: room.seats[0].token } });
    t.after(() => socket.disconnect());
    socket.on('disconnect', (reason) => lost.push({ i, reason }));
    return socket;
  });
  // Scale-in is asked for while every server is busy.
  const cli = (...words) => promisify(execFile)(BIN, ['--server', url, ...words], { timeout: 20_000 });
  await cli('scale', 'arena=3', '--for', '10m');
  await cli('scale', 'arena=0');
  await until('the fleet would shrink if it could', async () => {
    const { body: { now } } = await call('GET', '/v1/fleets/arena/decisions');
    return now?.blocked_by.some((why) => /3 servers are busy/.test(why)) || now?.policies.every(({ replicas }) => replicas === 3);
  });
  await until('the pod stays', () => api.marks().startsWith('true false'));

  // Nothing of this needs the API server, and it is told the truth when it is back.
  api.refuses = 503;
  await all(3, 3, async (i) => i > 0 && sockets[i].disconnect());
  await until('the two empty servers are gone', async () => (await call('GET', '/v1/fleets/arena')).body.replicas === 1, 60_000);
  assert.deepEqual(lost.filter(({ i }) => i === 0), []);
  assert.equal(sockets[0].connected, true, 'who plays was never disconnected');
  api.refuses = 0;
  assert.ok(api.marks().startsWith('true false'));
  sockets[0].disconnect();
  await until(() => `the pod may go; ${said()}`, () => api.marks() === IDLE, 60_000);
  assert.ok(api.patches < 20, `the pod was written to ${api.patches} times`);
});

test('an agent that cannot tell where players find it says why, and ends', async (t) => {
  const started = await start(t);
  await until('the agent runs', () => /pod found/.test(started.agent.output));
  started.agent.child.kill('SIGTERM');
  await started.agent.ended;
  assert.equal(started.agent.child.exitCode, 0);
  started.api.node.status.addresses.pop();
  const again = started.beginAgent();
  await again.ended;
  assert.equal(again.child.exitCode, 1);
  assert.match(again.output, /node node-a has no external address, only InternalIP; annotate it with greenroom.dev\/public-host/);
});
