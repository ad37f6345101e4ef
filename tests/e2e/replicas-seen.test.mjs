// Players find a lobby though nobody leads (S2-6): every replica sees what the agents report, and tells a server that lives.
import assert from 'node:assert/strict';
import net from 'node:net';
import process from 'node:process';

import { pause, signal, test, until } from './harness.mjs';
import { Replicas } from './replicas.mjs';

const AT = '/v1/fleets/lobby/endpoint';

/** Whether somebody takes connections there. */
const takes = (endpoint) => new Promise((done) => {
  const { hostname, port } = new URL(`tcp://${endpoint}`);
  const socket = net.connect({ host: hostname, port: Number(port) });
  const end = (answer) => {
    socket.destroy();
    done(answer);
  };
  socket.once('connect', () => end(true)).once('error', () => end(false));
});

/** Asks these replicas in turn until it is told to end. */
class Players {
  told = [];
  over = false;

  constructor(replicas, at) {
    this.done = Promise.all(at.map(async (replica) => {
      while (!this.over) {
        const began = performance.now();
        const { status, body } = await replicas.ask(replica, 'GET', AT).catch((error) => ({ status: error.message, body: {} }));
        this.told.push({ at: replica.name, began, ms: performance.now() - began, status, body });
        await pause(20);
      }
    }));
  }

  async end() {
    this.over = true;
    await this.done;
    return this.told;
  }
}

test('players are told a lobby that lives while the leader is dead or frozen', async (t) => {
  const replicas = await Replicas.start(t);
  for (const act of ['kill', 'freeze']) {
    const { replica: gone, term } = await replicas.leader();
    const others = replicas.replicas.filter((replica) => replica !== gone);
    await until('both see who leads', async () => {
      const all = await Promise.all(others.map((other) => replicas.ask(other, 'GET', '/readyz')));
      return all.every(({ body }) => body.replica?.term === term);
    });
    // One that was started again sees nothing until the agents have found it and told it what runs, once a second.
    await until('the agents speak to every replica', () =>
      replicas.replicas.every(({ run }) => (run.output.match(/agent stream opened/g) ?? []).length >= 2));
    await pause(1_100);
    const players = new Players(replicas, others);
    const began = performance.now();
    replicas[act](gone);
    await until('another leads', async () => {
      const next = await replicas.leader();
      return next.term > term && next;
    });
    const outage = performance.now() - began;
    const told = await players.end();
    assert.deepEqual(told.filter(({ status }) => status !== 200), [], `${act}: nobody was turned away`);
    // Not a limit of time: whoever waits for the next leader waits for about as long as the outage.
    assert.deepEqual(told.filter(({ ms }) => ms > (outage * 3) / 4), [], `${act}: nobody waited for the next leader`);
    const seen = told.filter(({ body }) => /no leader was reached/.test(body.because));
    for (const other of others) assert.ok(seen.some(({ at }) => at === other.name), `${act}: ${other.name} told what it saw`);
    const endpoints = [...new Set(seen.map(({ body }) => body.endpoint))];
    assert.equal(endpoints.length, 2, `${act}: by load, so both lobbies: ${endpoints}`);
    for (const endpoint of endpoints) assert.ok(await takes(endpoint), `${endpoint} takes players`);
    t.diagnostic(`${act}: ${seen.length} of ${told.length} answers were seen, the longest took ${Math.round(Math.max(...told.map(({ ms }) => ms)))} ms`);
    if (act === 'kill') replicas.startReplica(gone);
    else replicas.thaw(gone);
    await until('it follows', async () => (await replicas.ask(gone, 'GET', '/readyz')).body.replica?.role === 'follower');
  }
});

test('without any leader the lists are told as seen, and a lobby on a host that died is told no longer', async (t) => {
  const replicas = await Replicas.start(t, { replicas: ['a', 'b'] });
  // Nobody can take the lease without the store, so nobody leads until the end.
  const { replica: gone } = await replicas.leader();
  const [left] = replicas.replicas.filter((replica) => replica !== gone);
  replicas.redis.child.kill('SIGSTOP');
  replicas.kill(gone);
  const list = async () => (await replicas.ask(left, 'GET', '/v1/gameservers?fleet=lobby')).body.gameservers;
  const before = await until('the servers are seen', list);
  assert.equal(before.length, 2);
  const { body: { hosts } } = await replicas.ask(left, 'GET', '/v1/hosts');
  assert.deepEqual(hosts.map(({ name, connected }) => [name, connected]), [['h1', true], ['h2', true]]);
  // A host that freezes: its agent and its lobby say nothing more.
  const [lost, kept] = before;
  const agent = replicas.agents[Number(lost.host.slice(1)) - 1];
  t.after(() => agent.child.kill('SIGCONT'));
  agent.child.kill('SIGSTOP');
  process.kill(lost.pid, 'SIGSTOP');
  t.after(() => signal(lost.pid, 'SIGCONT'));
  await until('the host is told to be silent', async () => {
    const { body } = await replicas.ask(left, 'GET', '/v1/hosts');
    return body.hosts.some(({ name, connected }) => name === lost.host && !connected);
  });
  for (let i = 0; i < 10; i += 1) {
    const { status, body } = await replicas.ask(left, 'GET', AT);
    assert.deepEqual([status, body.server], [200, kept.name]);
  }
  replicas.redis.child.kill('SIGCONT');
});
