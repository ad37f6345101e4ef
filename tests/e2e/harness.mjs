// Starts a real Greenroom in a folder of its own and stops it again. Nothing here is a fake: the control plane, the
// agent and the gameservers are the processes a user gets.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { test as run } from 'node:test';

export const BIN = process.env.GREENROOM_BIN;
if (!BIN) throw new Error('GREENROOM_BIN must name the greenroom binary; `cargo xtask test` sets it');

const LONGEST_TEST_MS = 300_000;

/** As node's own, but one that hangs fails by its name after `LONGEST_TEST_MS`, where node's would wait for ever. */
export const test = (name, ...rest) => {
  const body = rest.pop();
  return run(name, { timeout: LONGEST_TEST_MS, ...rest[0] }, body);
};

/** Waits until `probe` gives something truthy, and gives it; fails with `what` (text, or a function of it) after `ms`. */
export async function until(what, probe, ms = 60_000) {
  const deadline = Date.now() + ms;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what instanceof Function ? what() : what} (last: ${describe(last)})`);
    await pause(25);
  }
}

const describe = (x) => (x instanceof Error ? x.message : JSON.stringify(x));

/** Ends all processes of a folder, also those that begin meanwhile, and removes it. */
export async function clear(folder) {
  for (let left = await processesOf(folder); left.length > 0; left = await processesOf(folder)) {
    for (const { pid } of left) signal(pid, 'SIGKILL');
    await pause(20);
  }
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Sends a signal to a process that may have ended. */
export function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Lets `ms` pass between two looks at something; never used as a proof that something happened. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A free TCP port, and `count` consecutive ones after it for gameservers. */
export async function freePorts(count) {
  for (let tries = 0; tries < 50; tries += 1) {
    const first = 10_000 + Math.floor(Math.random() * 22_000); // below what outgoing connections use
    const all = Array.from({ length: count }, (_, i) => first + i);
    const free = await Promise.all(all.map(isFree));
    if (free.every(Boolean)) return first;
  }
  throw new Error(`no ${count} consecutive free ports found`);
}

function isFree(port) {
  return new Promise((done) => {
    const probe = net.createServer();
    probe.once('error', () => done(false));
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => done(true)));
  });
}

export const isAlive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Pids whose environment carries this data folder: every process that belongs to one Greenroom of a test. */
export async function processesOf(folder) {
  const { readdir } = await import('node:fs/promises');
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = [];
  for (const pid of pids) {
    try {
      const [environ, cmdline, stat] = await Promise.all([
        readFile(`/proc/${pid}/environ`, 'utf8'),
        readFile(`/proc/${pid}/cmdline`, 'utf8'),
        readFile(`/proc/${pid}/stat`, 'utf8'),
      ]);
      const zombie = stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z');
      if (!zombie && (environ.includes(folder) || cmdline.includes(folder))) {
        found.push({ pid: Number(pid), command: cmdline.replaceAll('\0', ' ').trim() });
      }
    } catch {
      // gone meanwhile
    }
  }
  return found;
}

export class Greenroom {
  /** `config(ports)` gives the text of greenroom.toml for the chosen gameserver port range "a-b". */
  static async start(config, { ports = 40, env = {} } = {}) {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
    const first = await freePorts(ports + 1);
    const self = new Greenroom(folder, first, env);
    await writeFile(path.join(folder, 'greenroom.toml'), config(`${first + 1}-${first + ports}`));
    await self.up();
    return self;
  }

  constructor(folder, port, env) {
    this.folder = folder;
    this.port = port;
    this.env = env;
    this.url = `http://127.0.0.1:${port}`;
    this.output = '';
  }

  async up() {
    this.dev = spawn(BIN, ['dev', '--port', String(this.port)], {
      cwd: this.folder,
      env: { ...process.env, ...this.env, GREENROOM_TEST_FOLDER: this.folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk) => (this.output += chunk);
    this.dev.stdout.on('data', keep);
    this.dev.stderr.on('data', keep);
    await until(() => `greenroom is ready; it said:\n${this.output}`, async () => {
      if (this.dev.exitCode !== null) throw new Error(`dev ended with ${this.dev.exitCode}: ${this.output}`);
      return (await this.get('/readyz', { raw: true })).status === 200;
    }, 60_000);
  }

  /** Ctrl-C, and waits for the end. */
  async interrupt() {
    if (this.dev.exitCode === null && this.dev.signalCode === null) {
      const ended = once(this.dev, 'exit', { signal: AbortSignal.timeout(60_000) });
      this.dev.kill('SIGINT');
      await ended.catch(() => {
        this.dev.kill('SIGKILL');
        throw new Error(`dev did not end within 60 s of Ctrl-C; it said:\n${this.output}`);
      });
    }
    return this.dev.exitCode;
  }

  /** Ends it however it stands and removes its folder. */
  async stop() {
    await this.interrupt();
    await clear(this.folder);
  }

  /** Pid of the control process now. */
  async controlPid() {
    return (await this.part(' control')).pid;
  }

  async part(word) {
    return until(`a process with "${word}" exists`, async () =>
      (await processesOf(this.folder)).find(({ command }) => command.includes(word) && command.startsWith(BIN)));
  }

  async get(where, { raw = false } = {}) {
    const answer = await fetch(this.url + where);
    return raw ? { status: answer.status, text: await answer.text(), headers: answer.headers } : answer.json();
  }

  async post(where, body, headers = {}) {
    const answer = await fetch(this.url + where, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  }

  /** One room for these players; fails unless it was given. */
  async allocate(fleet, request) {
    const { status, body } = await this.post(`/v1/fleets/${fleet}/rooms`, request);
    if (status !== 200 && status !== 201) throw new Error(`allocate ${fleet}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  overview() {
    return this.get('/v1/overview');
  }
}

/** Starts Greenroom for one test and stops it whatever happens. */
export async function withGreenroom(t, config, options) {
  const greenroom = await Greenroom.start(config, options);
  t.after(() => greenroom.stop());
  return greenroom;
}

/** A `Map` of lists by what `by` says; `Map.groupBy` came to Node.js with 21. */
export function groupBy(items, by) {
  const groups = new Map();
  for (const item of items) groups.set(by(item), [...(groups.get(by(item)) ?? []), item]);
  return groups;
}
