// Everything at once: many stock clients in several processes, on three nodes over one Redis, under a flow of words, while
// connections are cut, nodes end, die and freeze, and the Redis is restarted. Each client is judged by itself.
//
//   node recovery/mixed.mjs --clients 1000 --seconds 180 --seed 7
//
// A fourth node, which is harmed only by the Redis, has the speakers, and for each group a witness who sees all that its
// group must see. A run ends with counts that must be 0, and with the refusals, each of which must have been true.
import { fork } from 'node:child_process';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

import { pause, until } from '../harness.mjs';
import { Speaker, WORDS, Watcher } from './players.mjs';
import { isTrue, seeded } from './sequence.mjs';
import { SUBJECTS } from './subjects.mjs';

const GROUPS = 7;
const HARMED = 3;
const FLOW_EVERY = 50;
const NODE_FAULTS = ['SIGTERM', 'SIGKILL', 'SIGSTOP'];

/** One process of clients. */
class Crowd {
  #asks = new Map();
  #last = 0;

  constructor() {
    this.child = fork(new URL('mixed-clients.mjs', import.meta.url).pathname);
    this.child.on('message', ({ ask, answer, error }) => {
      const [done, failed] = this.#asks.get(ask) ?? [];
      this.#asks.delete(ask);
      if (error) failed?.(new Error(error));
      else done?.(answer);
    });
    this.child.on('exit', (code) => this.#asks.forEach(([, failed]) => failed(new Error(`clients ended with ${code}`))));
  }

  ask(deed, rest = {}) {
    const ask = (this.#last += 1);
    return new Promise((done, failed) => {
      this.#asks.set(ask, [done, failed]);
      this.child.send({ ask, deed, ...rest });
    });
  }
}

/** A run while it lasts. */
class Mixed {
  storeDown = [];
  away = Array.from({ length: HARMED }, () => []);
  faults = { network: 0, SIGTERM: 0, SIGKILL: 0, SIGSTOP: 0, redis: 0 };
  saidAt = new Map();
  isOver = false;

  constructor(options, subject) {
    Object.assign(this, options, { subject, random: seeded(options.seed) });
    this.urls = subject.ports.map((port) => `http://127.0.0.1:${port}`);
  }

  /** Speakers and witnesses, then the clients, each with a session that is known to be kept. */
  async connect() {
    const quiet = this.urls[HARMED];
    this.speakers = Array.from({ length: GROUPS }, (_, number) => new Speaker(number + 1, quiet));
    this.witnesses = Array.from({ length: GROUPS }, () => new Watcher(quiet));
    await until('speakers and witnesses are connected', () => [...this.speakers, ...this.witnesses].every(({ socket }) => socket.connected));
    for (const [group, witness] of this.witnesses.entries()) {
      witness.socket.on('pos', (code) => witness.seen.push(code));
      await witness.ask('join', `group-${group}`);
      await this.speakers[group].socket.emitWithAck('join', `group-${group}`);
    }
    this.crowds = Array.from({ length: this.processes }, () => new Crowd());
    const each = Math.ceil(this.clients / this.processes);
    await Promise.all(this.crowds.map((crowd, at) => crowd.ask('connect', {
      from: at * each, count: Math.min(each, this.clients - at * each), urls: this.urls.slice(0, HARMED), groups: GROUPS, seed: this.seed * 1_000 + at,
    })));
  }

  /** Words at a steady rate: of four, three go to all and one to a group. */
  speak() {
    let due = 0, turn = 0;
    this.flowing = setInterval(() => {
      for (due += (this.words * FLOW_EVERY) / 1_000; due >= 1; due -= 1) {
        const speaker = this.speakers[(turn += 1) % GROUPS];
        const code = speaker.number * WORDS + (speaker.said += 1);
        this.saidAt.set(code, [Date.now(), turn % 4 === 0]);
        speaker.socket.emit(turn % 4 === 0 ? 'pos' : 'all', code);
      }
    }, FLOW_EVERY);
  }

  /** Notes when a trouble was, beginning now. */
  async trouble(list, deed) {
    const span = [Date.now(), Infinity];
    list.push(span);
    await deed();
    span[1] = Date.now();
  }

  everyCrowd(deed, rest) {
    return Promise.all(this.crowds.map((crowd) => crowd.ask(deed, rest)));
  }

  async #network() {
    while (!this.isOver) {
      await pause(this.random.between(500, 1_500));
      this.faults.network += 1;
      const share = this.random.next() < 0.1 ? 0.5 : 0.04;
      await this.everyCrowd('cut', { share, spread: 1_000, halfOpen: this.random.next() < 0.3 });
    }
  }

  async #nodes() {
    for (let turn = this.random.below(3); !this.isOver; turn += 1) {
      await pause(this.random.between(500, 2_500));
      const [node, fault] = [this.random.below(HARMED), NODE_FAULTS[turn % 3]];
      this.faults[fault] += 1;
      await this.trouble(this.away[node], () => this.#harm(node, fault));
    }
  }

  async #harm(node, fault) {
    await this.subject.signal(node, fault);
    if (fault === 'SIGSTOP') {
      // Its clients notice at different times, and some not at all.
      const frozenMs = this.random.between(200, 6_000);
      await this.everyCrowd('cut', { share: 0.8, spread: frozenMs, halfOpen: true, node });
      await pause(frozenMs);
      await this.subject.signal(node, 'SIGCONT');
      return;
    }
    await this.subject.ended(node);
    await pause(this.random.between(0, 1_500));
    await this.subject.revive(node);
  }

  async #redis() {
    for (let restart = 0; restart < this.restarts; restart += 1) {
      await pause((this.random.between(0.5, 1) * this.seconds * 1_000) / this.restarts);
      this.faults.redis += 1;
      await this.trouble(this.storeDown, () => this.subject.redis.restart(this.random.between(0, 1_500)));
    }
  }

  async #sleepers() {
    await pause(this.seconds * 100);
    for (const windows of [0.3, 1.3, 2.3]) await this.crowds[0].ask('sleep', { count: 2, ms: this.window * windows });
  }

  async harm() {
    const over = pause(this.seconds * 1_000).then(() => (this.isOver = true));
    await Promise.all([over, this.#network(), this.#nodes(), this.#redis(), this.#sleepers()]);
    // Who sleeps wakes up before the end.
    await pause(Math.max(0, this.window * 2.3 - this.seconds * 900));
  }

  /** No new words; all that were said have been seen by the witnesses, and nothing more comes to the clients. */
  async hush() {
    clearInterval(this.flowing);
    await this.everyCrowd('hush');
    const due = (group) => [...this.saidAt].filter(([code, [, isForGroup]]) => !isForGroup || Math.floor(code / WORDS) === group + 1).length;
    // A speaker is not told of what it says to its own group, its witness is.
    const wanted = this.witnesses.map((_, group) => due(group));
    await until(() => `the witnesses have seen ${wanted}, not ${this.witnesses.map(({ seen }) => seen.length)}`, () =>
      this.witnesses.every(({ seen }, group) => seen.length >= wanted[group]), 60_000);
    let before = -1;
    await until('nothing more comes', async () => {
      const looks = await this.everyCrowd('look');
      const progress = looks.reduce((sum, look) => sum + look.progress, 0);
      const isQuiet = progress === before && looks.reduce((sum, { back }) => sum + back, 0) === this.clients;
      before = progress;
      if (!isQuiet) await pause(2_000);
      return isQuiet;
    }, 60_000).catch((error) => console.error(error.message)); // the judge tells who is missing
  }

  /** The witnesses' orders, and what is wrong with them. */
  orders() {
    const wrong = [];
    const forAll = this.witnesses.map(({ seen }) => seen.filter((code) => !this.saidAt.get(code)?.[1]).join());
    if (new Set(forAll).size !== 1) wrong.push('witnesses on one node saw different orders');
    const orders = this.witnesses.map(({ seen }, group) => {
      const numbers = new Map();
      for (const code of seen) {
        const speaker = Math.floor(code / WORDS);
        const isForGroup = this.saidAt.get(code)?.[1];
        const key = `${speaker} ${isForGroup}`;
        if (isForGroup && speaker !== group + 1) wrong.push(`witness ${group} saw a word of another group`);
        if (code <= (numbers.get(key) ?? 0)) wrong.push(`witness ${group} saw ${code} after ${numbers.get(key)}`);
        numbers.set(key, code);
      }
      return seen.map((code) => [code, ...(this.saidAt.get(code) ?? [Infinity, false])]);
    });
    const stays = this.witnesses.map(({ connects }) => connects);
    if (stays.some((connects) => connects !== 1)) wrong.push(`witnesses connected ${stays} times`);
    return { orders, wrong: wrong.slice(0, 10) };
  }

  async judge() {
    const { orders, wrong } = this.orders();
    const judged = await this.everyCrowd('judge', { orders });
    const total = {}, reasons = {};
    for (const { total: part } of judged) for (const [key, value] of Object.entries(part)) total[key] = (total[key] ?? 0) + value;
    const refusals = judged.flatMap((part) => part.refusals);
    for (const { reason } of refusals) reasons[reason] = (reasons[reason] ?? 0) + 1;
    const sum = (key) => judged.reduce((so, part) => so + part[key], 0);
    return {
      seed: this.seed, clients: this.clients, seconds: this.seconds, words: this.saidAt.size, seen: sum('seen'), faults: this.faults,
      recoveries: sum('recoveries'), reasons, ...total,
      untrue: refusals.filter((refusal) => !isTrue(refusal, this)),
      silent: judged.flatMap((part) => part.silent), wrong, notes: judged.flatMap(({ notes }) => notes).slice(0, 20),
    };
  }

  async end() {
    clearInterval(this.flowing);
    for (const { socket } of [...(this.speakers ?? []), ...(this.witnesses ?? [])]) socket.disconnect();
    await Promise.all((this.crowds ?? []).map(({ child }) => {
      const ended = new Promise((done) => child.once('exit', done));
      if (child.connected) child.send({ ask: 0, deed: 'end' });
      return ended;
    }));
  }
}

/**
 * Plays one run: `clients` in `processes`, for `seconds`, with `words` a second, `restarts` of the Redis and sessions that
 * live for `window` ms. Gives what came of it.
 */
export async function playMixed({ clients = 100, seconds = 30, processes = 2, words = 20, restarts = 5, window = 10_000, seed = Math.floor(Math.random() * 1e6) } = {}) {
  console.error(`mixed run: seed ${seed}, ${clients} clients, ${seconds} s`);
  const subject = await SUBJECTS.redis(HARMED + 1, window, { keeps: true });
  const run = new Mixed({ clients, seconds, processes, words, restarts, window, seed }, subject);
  try {
    await run.connect();
    run.speak();
    await run.harm();
    await run.hush();
    return await run.judge();
  } finally {
    await run.end();
    await subject.stop();
  }
}

const MUST_BE_NONE = ['lost', 'doubled', 'reordered', 'strange', 'ownLost', 'ownDoubled', 'ownReordered', 'notWhole', 'notBack'];

/** What differs from how it must be; empty when all is well. */
export function faultsOfMixed(result) {
  const lists = ['untrue', 'silent', 'wrong'].filter((key) => result[key].length > 0).map((key) => `${key}: ${JSON.stringify(result[key].slice(0, 5))}`);
  const counts = MUST_BE_NONE.filter((key) => result[key] !== 0).map((key) => `${key}: ${result[key]}`);
  const idle = result.recoveries === 0 ? ['nobody was ever recovered: the run shows nothing'] : [];
  return [...counts, ...lists, ...idle];
}

async function main() {
  const option = (fallback) => ({ type: 'string', default: String(fallback) });
  const { values } = parseArgs({
    options: {
      clients: option(1_000), seconds: option(180), processes: option(4), words: option(20), restarts: option(5), window: option(20_000),
      seed: option(Math.floor(Math.random() * 1e6)),
    },
  });
  const result = await playMixed(Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Number(value)])));
  console.log(JSON.stringify(result, null, 1));
  const faults = faultsOfMixed(result);
  if (faults.length > 0) {
    console.error(faults.join('\n'));
    process.exitCode = 1;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
