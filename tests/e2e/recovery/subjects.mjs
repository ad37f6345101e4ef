// Servers under test, all behind the same few words: the reference from npm, and our relay.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';

import { config } from '../configs.mjs';
import { Greenroom, freePorts, until } from '../harness.mjs';
import { Redis } from '../redis.mjs';

const answers = async (port) => {
  const answer = await fetch(`http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling`);
  await answer.text();
  return answer.status === 200;
};

/** Runs a program, keeps the end of what it says. */
function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  child.said = '';
  const keep = (chunk) => (child.said = (child.said + chunk).slice(-20_000));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  return child;
}

const over = async (child) => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGCONT');
  child.kill('SIGKILL');
  await ended;
};

/** Servers as plain processes on ports of their own, started again by hand. */
class Processes {
  constructor(title, commandOf, redis, ports) {
    Object.assign(this, { title, commandOf, redis, ports, children: [], folder: null });
  }

  static async start(title, servers, commandOf, redis) {
    const first = await freePorts(servers);
    const self = new Processes(title, commandOf, redis, Array.from({ length: servers }, (_, i) => first + i));
    await Promise.all(self.ports.map((_, i) => self.revive(i)));
    return self;
  }

  async revive(i) {
    if (this.children[i]) await over(this.children[i]);
    const [command, ...args] = this.commandOf(this.ports[i]);
    const child = (this.children[i] = run(command, args));
    await until(() => `server ${i} of ${this.title} answers: ${child.said}`, () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
      return answers(this.ports[i]);
    }, 30_000);
  }

  async signal(i, name) {
    this.children[i].kill(name);
  }

  /** Waits until a server has ended of its own. */
  async ended(i) {
    const child = this.children[i];
    await until(() => `server ${i} of ${this.title} ended: ${child.said}`, () => child.exitCode !== null || child.signalCode !== null, 30_000);
  }

  async stop() {
    await Promise.all(this.children.map(over));
    await this.redis?.stop();
  }
}

/** A fleet of relays under `greenroom dev`: the agent starts a dead one again, on its own port. */
class Fleet {
  title = 'Greenroom, hub in the agent';

  static async start(servers, window) {
    const fleet = `
[fleets.relay]
kind = "mesh"
command = ["greenroom", "example", "relay", "--recovery", "${window}ms"]
replicas_min = ${servers}
replicas_max = ${servers}
`;
    const self = new Fleet();
    self.greenroom = await Greenroom.start(config([fleet]));
    const { gameservers } = await self.greenroom.get('/v1/gameservers');
    self.names = gameservers.map(({ name }) => name);
    self.ports = gameservers.map(({ endpoint }) => Number(endpoint.split(':')[1]));
    return self;
  }

  async pid(i) {
    const { pid } = await this.greenroom.get(`/v1/gameservers/${this.names[i]}`);
    if (!pid) throw new Error(`${this.names[i]} has no process`);
    return pid;
  }

  async revive(i) {
    await until(`${this.names[i]} was started again`, () => answers(this.ports[i]), 30_000);
  }

  async signal(i, name) {
    process.kill(await this.pid(i), name);
  }

  async stop() {
    await this.greenroom.stop();
  }
}

const reference = new URL('npm-server.mjs', import.meta.url).pathname;

/** By name: starts `servers` servers whose sessions live for `window` ms. */
export const SUBJECTS = {
  async npm(servers, window) {
    const redis = await Redis.start();
    const command = (port) => [process.execPath, reference, String(port), redis.url, String(window)];
    return Processes.start('npm, Redis Streams adapter', servers, command, redis);
  },
  hub: (servers, window) => Fleet.start(servers, window),
  async redis(servers, window, { keeps } = {}) {
    const redis = await Redis.start({ keeps: keeps && 'always' });
    const relay = ['example', 'relay', '--recovery', `${window}ms`, '--redis', redis.url];
    const command = (port) => [process.env.GREENROOM_BIN, ...relay, String(port)];
    return Processes.start('Greenroom, Redis', servers, command, redis);
  },
};
