// A real Redis of one test alone, in a folder of its own, which is killed, frozen and started again as the test likes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
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
   */
  static async start(options) {
    const self = await Redis.prepare(options);
    await self.begin();
    return self;
  }

  /** Folder and port; nothing runs yet. */
  static async prepare({ keeps, port, address = '127.0.0.1', inside = [], env = process.env } = {}) {
    const self = new Redis();
    self.folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-redis-'));
    self.address = address;
    self.port = port ?? (await freePorts(1));
    self.env = env;
    const args = ['--port', self.port, '--bind', address, '--dir', self.folder, '--save', '', '--appendonly', keeps ? 'yes' : 'no'];
    self.command = [...inside, PROGRAM, ...args, '--appendfsync', keeps ?? 'no', '--protected-mode', 'no'].map(String);
    return self;
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
      return this.said.includes('Ready to accept connections');
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
  ask(command) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.port, this.address, () => socket.write(`${command}\r\n`));
      let said = '';
      socket.setTimeout(2_000, () => socket.destroy(new Error(`no answer to ${command}`)));
      socket.on('error', reject);
      socket.on('data', (chunk) => {
        said += chunk;
        const end = said.indexOf('\r\n');
        if (end < 0) return;
        resolve(said.slice(0, end));
        socket.destroy();
      });
    });
  }

  async stop() {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}
