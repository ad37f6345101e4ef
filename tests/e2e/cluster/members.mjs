// The cluster: a Redis, replicas of the control plane and hosts of gameservers, each on a machine of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import process from 'node:process';

import { until } from '../harness.mjs';
import { Redis } from '../redis.mjs';
import { Balancer } from './balancer.mjs';
import { HERE, Net } from './net.mjs';

const PORT = 8700;
const TOKEN = 'of-the-operators-0123456789';
const AGENT_TOKEN = 'of-the-agents-0123456789';
/** A call may be held 10 s at a replica; behind the balancer it may see several of them die. */
const CALL_WITHIN = 25_000;
const ENDS_WITHIN = 20_000;

/** One program of the cluster, which ends and begins again. Its log goes on in one file. */
class Member {
  /** `commandOf(bin)` is what is run; `log` goes on when it begins again. */
  constructor(name, log, commandOf, env) {
    Object.assign(this, { name, log, commandOf, env });
  }

  /** The binary with which it begins from now on. */
  run(bin) {
    this.command = this.commandOf(bin);
  }

  async begin() {
    const [program, ...args] = this.command;
    this.child = spawn(program, args, { cwd: path.dirname(this.log), env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.child, 'exit');
    const keep = (chunk) => appendFile(this.log, chunk);
    this.child.stdout.on('data', keep);
    this.child.stderr.on('data', keep);
  }

  signal(name) {
    this.child.kill(name);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM, and waits for its end. */
  async end() {
    this.child.kill('SIGTERM');
    const over = setTimeout(() => this.child.kill('SIGKILL'), ENDS_WITHIN);
    const [code] = await this.ended;
    clearTimeout(over);
    if (code !== 0) throw new Error(`${this.name} was told to stop and ended with ${code}\n${await this.tail()}`);
  }

  async tail() {
    const text = await readFile(this.log, 'utf8').catch(() => '');
    return `--- ${this.name}\n${text.slice(-3_000)}`;
  }
}

export class Cluster {
  /** `vault` has rooms that never end, for callers; `chat` comes and goes with its players. */
  static TOML = (self, name) => `
[control]
reservation = "1h"

[[control.tokens]]
name = "ops"
role = "admin"
from = "env:CLUSTER_OPS"

[[control.tokens]]
name = "agents"
role = "agent"
from = "env:CLUSTER_AGENTS"

[host]
name = "${name}"
public_host = "${self.net.host(name)}"
ports = "7000-7099"

[fleets.vault]
kind = "room"
command = ["sh", "${self.witness}", "${self.bin}", "example", "chat"]
rooms_per_server = 10000
seats_per_room = 20
replicas_min = 2
replicas_max = 2

[fleets.chat]
kind = "room"
command = ["sh", "${self.witness}", "${self.bin}", "example", "chat"]
rooms_per_server = 3
seats_per_room = 4
replicas_min = 2
replicas_max = 12
stop_grace = "2s"

[fleets.chat.autoscale]
cooldown_out = "0s"
cooldown_in = "1s"
settle_in = "1s"
`;

  /** Started, all of it with the binary `bin`, gameservers too; every fleet is at its size. */
  static async start({ folder, bin, replicas = ['a', 'b', 'c'], hosts = ['h1', 'h2'] }) {
    const self = new Cluster();
    Object.assign(self, { folder, bin, births: path.join(folder, 'births'), witness: path.join(folder, 'witness.sh'), token: TOKEN });
    self.env = { ...process.env, CLUSTER_OPS: TOKEN, CLUSTER_AGENTS: AGENT_TOKEN, NO_COLOR: '1', GREENROOM_LOG: 'info,greenroom_control=debug' };
    self.net = await Net.build(['store', ...replicas, ...hosts]);
    await mkdir(folder, { recursive: true });
    await writeFile(self.births, '');
    // Each process says itself that it was born: a word that no part of what is tested can forget or repeat.
    await writeFile(self.witness, `echo "$GREENROOM_SERVER $$ $(date +%s%3N)" >> ${self.births}\nexec "$@"\n`);
    const url = (name) => `http://${self.net.address(name)}:${PORT}`;
    const redis = await Redis.start({ keeps: 'always', port: 6379, address: self.net.address('store'), inside: self.net.on('store') });
    self.store = Object.assign(redis, { name: 'store', signal: (name) => redis.child.kill(name) });
    self.replicas = await Promise.all(replicas.map((name) => self.#member(name, url(name), [
      'control', '--listen', `${self.net.address(name)}:${PORT}`, '--store', redis.url, '--replica', name, '--advertise', url(name),
    ])));
    const others = replicas.slice(1).flatMap((name) => ['--replica', url(name)]);
    self.agents = await Promise.all(hosts.map((name) => self.#member(name, url(name), [
      '--server', url(replicas[0]), 'agent', '--data-dir', path.join(folder, name), ...others,
    ], { GREENROOM_TOKEN: AGENT_TOKEN })));
    for (const member of [...self.replicas, ...self.agents]) await member.begin();
    self.balancer = await Balancer.start(self.replicas, { token: TOKEN, address: self.net.address(HERE), deadline: CALL_WITHIN });
    await self.calm(40_000);
    return self;
  }

  async #member(name, url, args, env = {}) {
    const config = path.join(this.folder, `${name}.toml`);
    await writeFile(config, Cluster.TOML(this, name));
    const commandOf = (bin) => [...this.net.on(name), bin, ...args, '--config', config];
    const member = new Member(name, path.join(this.folder, `${name}.log`), commandOf, { ...this.env, ...env });
    member.run(this.bin);
    return Object.assign(member, { url });
  }

  member(name) {
    return [this.store, ...this.replicas, ...this.agents].find((member) => member.name === name);
  }

  async get(at) {
    const { status, body } = await this.balancer.call('GET', at);
    if (status !== 200) throw new Error(`${at}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** Waits until one leads, all stand, and every fleet has what it wants, no more and no less. */
  async calm(ms) {
    const said = async () => (await Promise.all([...this.replicas, ...this.agents].map((member) => member.tail()))).join('\n');
    let state;
    try {
      await until(() => '', async () => {
        state = { leaders: this.balancer.leaders, ready: this.balancer.replicas.map(({ ready }) => ready) };
        if (state.leaders.length !== 1 || !state.ready.every(Boolean)) return false;
        const { fleets } = await this.get('/v1/fleets');
        const { gameservers } = await this.get('/v1/gameservers');
        state.fleets = fleets.map(({ name, ready, replicas_min: min, waiting_on: on }) =>
          ({ name, ready, min, on, servers: gameservers.filter(({ fleet }) => fleet === name).length }));
        return state.fleets.every(({ ready, min, on, servers }) => ready === min && servers === min && on.length === 0);
      }, ms);
    } catch {
      throw new Error(`the cluster did not come to rest within ${ms} ms: ${JSON.stringify(state)}\n${await said()}`);
    }
  }

  /** Everything of an endless list. */
  async pages(at, key) {
    const found = new Map();
    for (let offset = 0; ; offset += 1_000) {
      const body = await this.get(`${at}${at.includes('?') ? '&' : '?'}offset=${offset}&limit=1000`);
      for (const item of body[key]) found.set(item.room ?? item.name, item);
      if (offset + 1_000 >= body.total) return [...found.values()];
    }
  }

  /** The whole audit trail, oldest first. */
  async trail() {
    const entries = [];
    for (let before; ;) {
      const body = await this.get(`/v1/audit?limit=1000${before ? `&before=${before}` : ''}`);
      entries.push(...body.entries);
      if (!(before = body.before)) return entries.reverse();
    }
  }

  /** What the machines themselves say: who was ever born, and who lives. */
  async processes() {
    const lines = (await readFile(this.births, 'utf8')).split('\n').filter(Boolean);
    const births = lines.map((line) => line.split(' ')).map(([name, pid, at]) => ({ name, pid: Number(pid), at: Number(at) }));
    const alive = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const read = (file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
      const [environ, stat] = [await read('environ'), await read('stat')];
      const name = /(?:^|\0)GREENROOM_SERVER=([^\0]*)/.exec(environ)?.[1];
      if (name && !stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')) alive.push({ name, pid: Number(pid) });
    }
    return { births, alive };
  }

  async stop() {
    await this.balancer?.stop();
    await this.store?.stop();
  }
}
