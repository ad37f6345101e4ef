// Several control planes on one real Redis, with real agents, and callers that try the next replica when one does not
// answer: what a load balancer in front of them does.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

import { BIN, clear, freePorts, pause, until } from './harness.mjs';
import { Redis } from './redis.mjs';

const TOML = (ports, name, zone) => `
[control]
reservation = "1h"

[host]
name = "${name}"
ports = "${ports}"
${zone ? `labels = { zone = "${zone}" }` : ''}

[fleets.chat]
kind = "room"
command = ["${BIN}", "example", "chat"]
rooms_per_server = 4000
seats_per_room = 20
replicas_min = 4
replicas_max = 4

[fleets.lobby]
kind = "mesh"
command = ["${BIN}", "example", "lobby"]
replicas_min = 2
replicas_max = 2
spread = "host"
`;

/** Runs a process whose output is kept; ended by `stop`. */
export function run(program, args, options) {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const run = { child, output: '', ended: once(child, 'exit') };
  const keep = (chunk) => (run.output = (run.output + chunk).slice(-200_000));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.on('error', (error) => keep(`${program} cannot be started: ${error.message}`));
  return run;
}

export class Replicas {
  /** Files and ports; nothing runs yet. */
  static async prepare(t, replicas, hosts) {
    const self = new this();
    self.more = ''; // what files say besides
    t.after(() => self.stop());
    self.folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
    self.env = { ...process.env, GREENROOM_TEST_FOLDER: self.folder };
    const first = await freePorts(1 + replicas.length + hosts.length * 12);
    self.redisPort = first;
    self.replicas = replicas.map((name, i) => ({ name, port: first + 1 + i, url: `http://127.0.0.1:${first + 1 + i}` }));
    self.ports = (i) => `${first + 1 + replicas.length + i * 12}-${first + replicas.length + (i + 1) * 12}`;
    await writeFile(self.toml('control'), TOML(self.ports(0), 'control'));
    return self;
  }

  static async start(t, { replicas = ['a', 'b', 'c'], hosts = ['h1', 'h2'], zones = {} } = {}) {
    const self = await this.prepare(t, replicas, hosts);
    await self.startRedis();
    for (const replica of self.replicas) self.startReplica(replica);
    self.agents = await Promise.all(hosts.map(async (name, i) => {
      await writeFile(self.toml(name), TOML(self.ports(i), name, zones[name]) + self.more);
      const others = self.replicas.slice(1).flatMap(({ url }) => ['--replica', url]);
      const args = ['--server', self.replicas[0].url, 'agent', '--config', self.toml(name)];
      args.push('--data-dir', path.join(self.folder, name), '--stop-servers-on-exit', ...others);
      return run(BIN, args, { cwd: self.folder, env: self.env });
    }));
    await until(() => `every fleet is ready; control said\n${self.said()}`, async () => {
      const { body } = await self.call('GET', '/v1/fleets');
      return body.fleets?.every((fleet) => fleet.ready >= fleet.replicas_min);
    }, 40_000);
    return self;
  }

  toml(name) {
    return path.join(this.folder, `${name}.toml`);
  }

  async startRedis() {
    if (this.redis) return this.redis.begin();
    this.redis = await Redis.start({ keeps: 'everysec', port: this.redisPort, env: this.env });
  }

  storeUrl() {
    return `redis://127.0.0.1:${this.redisPort}`;
  }

  startReplica(replica) {
    const args = ['control', '--config', this.toml('control'), '--listen', `127.0.0.1:${replica.port}`];
    args.push('--store', this.storeUrl(), '--replica', replica.name, '--advertise', replica.url);
    replica.run = run(BIN, args, { cwd: this.folder, env: { ...this.env, NO_COLOR: '1' } });
    replica.state = 'up';
    replica.broken = new AbortController();
  }

  said() {
    return this.replicas.map(({ name, run }) => `--- ${name}\n${run.output.slice(-3000)}`).join('\n');
  }

  /** One call to one replica. */
  async ask({ url, broken }, method, at, body, ms = 12_000) {
    const headers = body ? { 'content-type': 'application/json' } : {};
    const signal = broken ? AbortSignal.any([AbortSignal.timeout(ms), broken.signal]) : AbortSignal.timeout(ms);
    const answer = await fetch(url + at, { method, headers, body: body && JSON.stringify(body), signal });
    return { status: answer.status, body: await answer.json().catch(() => ({})) };
  }

  /** The call as a load balancer makes it: at the replicas that are up, the next one when one breaks off. */
  async call(method, at, body) {
    const up = this.replicas.filter(({ state }) => state === 'up');
    const first = Math.floor(Math.random() * up.length);
    let broken;
    for (let tries = 0; tries < 2 * up.length; tries += 1) {
      try {
        return await this.ask(up[(first + tries) % up.length], method, at, body);
      } catch (error) {
        broken = error;
      }
    }
    throw broken;
  }

  allocate(body) {
    return this.call('POST', '/v1/fleets/chat/rooms', body);
  }

  /** The replica that leads, as the replicas that are up say it. */
  leader() {
    return until(() => `somebody leads; control said\n${this.said()}`, async () => {
      for (const replica of this.replicas.filter(({ state }) => state === 'up')) {
        const { body } = await this.ask(replica, 'GET', '/readyz', undefined, 1000).catch(() => ({}));
        if (body?.replica?.role === 'leader') return { ...body.replica, replica };
      }
      return undefined;
    }, 20_000);
  }

  kill(replica) {
    replica.state = 'down';
    replica.run.child.kill('SIGKILL');
  }

  /** Also breaks off the calls that are under way there, as a kill does by itself: nobody is there to answer them. */
  freeze(replica) {
    replica.state = 'down';
    replica.run.child.kill('SIGSTOP');
    replica.broken.abort(new Error(`${replica.name} was frozen`));
    replica.broken = new AbortController();
  }

  thaw(replica) {
    replica.run.child.kill('SIGCONT');
    replica.state = 'up';
  }

  async stop() {
    for (const { run } of this.replicas ?? []) run?.child.kill('SIGKILL');
    for (const { child } of this.agents ?? []) child.kill('SIGTERM');
    const gone = Promise.all((this.agents ?? []).map(({ ended }) => ended));
    await Promise.race([gone, pause(4000)]);
    for (const { child } of this.agents ?? []) child.kill('SIGKILL');
    await this.redis?.stop();
    await clear(this.folder);
  }
}

/** Callers that go on until they are stopped: rooms by keys that exist, and new ones. What failed is kept. */
export class Callers {
  constructor(replicas, keys) {
    this.replicas = replicas;
    this.rooms = new Map(); // by key
    this.made = new Map(); // answer by idempotency key
    this.failed = { existing: [], fresh: [] };
    this.calls = 0;
    this.slowest = 0;
    this.keys = keys;
    this.over = false;
  }

  async begin() {
    for (const key of this.keys) {
      const { status, body } = await this.replicas.allocate({ key, players: [`of-${key}`] });
      if (status !== 200) throw new Error(`${key}: ${status} ${JSON.stringify(body)}`);
      this.rooms.set(key, body.room);
    }
    this.loops = [this.loop(() => this.existing()), this.loop(() => this.existing()), this.loop(() => this.fresh())];
  }

  async loop(step) {
    while (!this.over) {
      const began = Date.now();
      await step();
      this.calls += 1;
      this.slowest = Math.max(this.slowest, Date.now() - began);
      await pause(5);
    }
  }

  async existing() {
    const key = this.keys[Math.floor(Math.random() * this.keys.length)];
    const { status, body } = await this.replicas.allocate({ key, players: [`of-${key}`] })
      .catch((error) => ({ status: error.message, body: {} }));
    if (status !== 200 || body.room !== this.rooms.get(key)) this.failed.existing.push({ key, status, body });
  }

  async fresh() {
    const id = `order-${this.made.size}-${Math.random()}`;
    const { status, body } = await this.replicas.allocate({ idempotency_key: id, players: ['p'], timeout_ms: 30_000 })
      .catch((error) => ({ status: error.message, body: {} }));
    if (status === 200) this.made.set(id, body);
    else this.failed.fresh.push({ id, status, body });
  }

  async end() {
    this.over = true;
    await Promise.all(this.loops);
  }
}

/** How long it takes after `act` until a new room is given again by another leader, in milliseconds. */
export async function failover(replicas, act) {
  const before = await replicas.leader();
  const began = performance.now();
  await act(before.replica);
  const deadline = Date.now() + 60_000;
  for (;;) {
    const others = replicas.replicas.filter((replica) => replica.state === 'up' && replica !== before.replica);
    const body = { players: ['prober'], idempotency_key: `probe-${Math.random()}` };
    const [status] = await replicas.ask(others[0], 'POST', '/v1/fleets/chat/rooms', body)
      .then(({ status }) => [status], () => [0]);
    if (status === 200) return { ms: performance.now() - began, before };
    if (Date.now() > deadline) throw new Error(`no failover: ${replicas.said()}`);
    await pause(10);
  }
}
