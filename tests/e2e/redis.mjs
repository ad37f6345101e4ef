// A real Redis of one test alone, in a folder of its own, which is killed, frozen and started again as the test likes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

import { freePorts, pause, until } from './harness.mjs';

const PROGRAM = process.env.REDIS_SERVER ?? 'redis-server';

export class Redis {
  /**
   * Started, and it takes calls. With `keeps` it has its data again when it is started again: `'always'` up to the last
   * answer that it gave, `'everysec'` up to a second before. `inside` are words to put before the program (`ip netns exec …`).
   * `follows` is the port of the one whose replica it is.
   */
  static async start(options) {
    const self = await Redis.prepare(options);
    await self.begin();
    return self;
  }

  /** Folder and port; nothing runs yet. */
  static async prepare({ keeps, port, address = '127.0.0.1', inside = [], env = process.env, follows } = {}) {
    const self = new Redis();
    self.folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-redis-'));
    self.address = address;
    self.port = port ?? (await freePorts(1));
    self.env = env;
    const args = ['--port', self.port, '--bind', address, '--dir', self.folder, '--save', '', '--appendonly', keeps ? 'yes' : 'no'];
    if (follows) args.push('--replicaof', '127.0.0.1', follows);
    self.command = [...inside, PROGRAM, ...args, '--appendfsync', keeps ?? 'no', '--protected-mode', 'no'].map(String);
    self.isReady = (said) => said.includes('Ready to accept connections');
    return self;
  }

  /** Starts it as a sentinel of whoever listens on this port. */
  async becomeSentinel(port) {
    const settings = path.join(this.folder, 'sentinel.conf');
    await writeFile(settings, `port ${this.port}
bind ${this.address}
dir ${this.folder}
sentinel monitor main 127.0.0.1 ${port} 2
sentinel down-after-milliseconds main 800
sentinel failover-timeout main 2000
`);
    this.command = [PROGRAM, settings, '--sentinel'];
    this.isReady = (said) => said.includes('+monitor master main');
    await this.begin();
  }

  get url() {
    return `redis://${this.address}:${this.port}`;
  }

  /** Starts it, the first time or again. */
  async begin() {
    const [program, ...args] = this.command;
    const child = spawn(program, args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    this.ended = once(child, 'exit').catch(() => {});
    this.said = '';
    const keep = (chunk) => (this.said = (this.said + chunk).slice(-20_000));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => keep(`${error}; install it: apt-get install redis-server`));
    await until(() => `redis-server takes calls; it said:\n${this.said}`, () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
      return this.isReady(this.said);
    }, 30_000);
  }

  /** SIGKILL, also when it is frozen, and waits for its end. A second call does nothing. */
  async kill() {
    if (!this.child?.pid || this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Killed, out for so long, and started again. */
  async restart(outMs = 0) {
    await this.kill();
    await pause(outMs);
    await this.begin();
  }

  /** The first line of its answer to a command without spaces in its words: `+OK`, `:1`, `$-1`. */
  async ask(command) {
    return (await this.askLines(command, 1))[0];
  }

  /** So many lines of it. */
  askLines(command, count) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.port, this.address, () => socket.write(`${command}\r\n`));
      let said = '';
      socket.setTimeout(2_000, () => socket.destroy(new Error(`no answer to ${command}`)));
      socket.on('error', reject);
      socket.on('data', (chunk) => {
        said += chunk;
        const lines = said.split('\r\n');
        if (lines.length <= count) return;
        resolve(lines.slice(0, count));
        socket.destroy();
      });
    });
  }

  async stop() {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A Redis, its replica, and three sentinels that make the replica the primary when the primary is gone for 0.8 s. */
export class Watched {
  static async start(options) {
    const self = new Watched();
    self.all = [];
    const start = async (more) => {
      const redis = await Redis.prepare({ ...options, ...more });
      // Else a replica waits for others for 5 s before it is given all.
      redis.command.push('--repl-diskless-sync-delay', '0');
      self.all.push(redis);
      await redis.begin();
      return redis;
    };
    const primary = await start();
    self.stores = [primary, await start({ follows: primary.port })];
    await until('the replica has all', () => self.isReplica(1));
    self.sentinels = [];
    for (let i = 0; i < 3; i += 1) {
      const sentinel = await Redis.prepare(options);
      self.all.push(sentinel);
      self.sentinels.push(sentinel);
      await sentinel.becomeSentinel(primary.port);
    }
    for (const sentinel of self.sentinels) {
      await until('the sentinels know one another and the replica', async () =>
        (await sentinel.ask('SENTINEL CKQUORUM main')).startsWith('+OK 3 usable')
          && (await sentinel.ask('SENTINEL REPLICAS main')) === '*1', 60_000);
    }
    return self;
  }

  get url() {
    return `redis+sentinel://${this.sentinels.map(({ address, port }) => `${address}:${port}`).join()}/main`;
  }

  /** The number of the one that all sentinels name, if they agree. */
  async primary() {
    const ports = await Promise.all(this.sentinels.map(async (sentinel) =>
      (await sentinel.askLines('SENTINEL GET-MASTER-ADDR-BY-NAME main', 5))[4]));
    return this.stores.findIndex(({ port }) => ports.every((named) => Number(named) === port));
  }

  /** Whether it follows another one and has what that one has. */
  async isReplica(nth) {
    const role = await this.stores[nth].askLines('ROLE', 5);
    return role[0] === '*5' && (await this.stores[nth].askLines('ROLE', 8))[7] === 'connected';
  }

  async stop() {
    await Promise.all(this.all.map((redis) => redis.stop()));
  }
}
