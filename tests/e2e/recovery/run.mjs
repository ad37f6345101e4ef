// Plays scenarios of recovery against servers under test and prints what came of it, as a table.
//
//   node recovery/run.mjs --subjects npm,hub --clients 300 --scenarios kill,zero
import process from 'node:process';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

import { pause, until } from '../harness.mjs';
import { Speaker, Watcher, compare, placesOf } from './players.mjs';
import { Proxy } from './proxy.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { SUBJECTS } from './subjects.mjs';

const BACK_WITHIN = 60_000;

/** One scenario against one subject, while it runs. */
class Run {
  players = [];
  speakers = [];
  cutAt = 0;
  backMs = [];

  constructor(subject, proxy, { window, refused }) {
    Object.assign(this, { subject, proxy, window, refused, ports: subject.ports });
  }

  async connect(clients, options = () => ({})) {
    const harmless = `http://127.0.0.1:${this.ports[2]}`;
    this.witness = new Watcher(harmless);
    this.speakers = [1, 2].map((number) => new Speaker(number, harmless));
    this.other = ['a', 'b'].map(() => new Watcher(harmless));
    this.proxy.route(this.ports[0]);
    for (let at = 0; at < clients; at += 50) {
      const batch = Array.from({ length: Math.min(50, clients - at) }, (_, i) => new Watcher(this.proxy.url, options(at + i)));
      this.players.push(...batch);
      await until(() => `${at + batch.length} clients are connected`, () => batch.every(({ socket }) => socket.connected), 60_000);
      await Promise.all(batch.map((player, i) => player.settle(at + i)));
    }
    const rest = [this.witness, ...this.other, ...this.speakers];
    await until('speakers and witness are connected', () => rest.every(({ socket }) => socket.connected));
    await Promise.all(this.other.map((watcher) => watcher.ask('join', 'elsewhere')));
  }

  /** Words to everybody from now on, from all speakers in turn, until `hush`. */
  flow({ every, words }) {
    let turn = 0;
    this.flowing ??= setInterval(() => this.speakers[turn++ % this.speakers.length].say(words), every);
  }

  /** No new words; waits until the witness has heard all that were said. */
  async hush() {
    clearInterval(this.flowing);
    this.flowing = null;
    const said = this.speakers.reduce((sum, speaker) => sum + speaker.said, 0);
    await until(() => `the witness heard all ${said} words, not ${this.witness.seen.length}`, () => this.witness.seen.length >= said, 60_000);
  }

  /** `count` words as fast as the witness can hear them. */
  async speak(count, ballast) {
    for (let left = count; left > 0; left -= 200) {
      this.speakers[0].say(Math.min(left, 200), ballast);
      await this.hush();
    }
  }

  /** `count` events in a group where no player is. */
  async busyElsewhere(count) {
    let heard = 0;
    this.other[1].socket.on('pos', () => (heard += 1));
    for (let sent = 0; sent < count;) {
      for (const stop = Math.min(sent + 200, count); sent < stop; sent += 1) this.other[0].socket.emit('pos', sent);
      await until('the events elsewhere are heard', () => heard === sent, 60_000);
    }
  }

  /** Waits until each player has seen this many words. */
  seen(count) {
    return until(() => `all have seen ${count} words`, () => this.players.every(({ seen }) => seen.length >= count), 60_000);
  }

  /** Does the deed, sees everybody go, and waits until everybody is back or the time is over. */
  async cut(deed, { meanwhile = () => {} } = {}) {
    const before = new Map(this.players.map((player) => [player, player.connects]));
    this.cutAt = performance.now();
    await deed();
    await until('every player was cut', () => this.players.every((player) =>
      !player.socket.connected || player.connects > before.get(player)), 30_000);
    await meanwhile();
    const isBack = (player) => player.socket.connected && player.connects > before.get(player);
    await until('back', () => this.players.every(isBack), BACK_WITHIN).catch(() => {});
    this.backMs.push(...this.players.filter(isBack).map(({ backAt }) => backAt - this.cutAt));
  }

  /** What every player must have seen, against what each has; waits until nothing more comes. */
  async judge(cuts) {
    if (this.flowing) {
      await pause(500); // some words after the return
      await this.hush();
    }
    const places = placesOf(this.witness.seen);
    let progress = -1;
    await until('nothing more comes', async () => {
      const before = progress;
      progress = this.players.reduce((sum, { seen }) => sum + seen.length, 0);
      if (this.players.every(({ seen }) => seen.length >= places.size)) return true;
      if (before !== progress) await pause(3_000); // as long as somebody still gets some, wait on
      return before === progress;
    }, 300_000);
    const total = { recovered: 0, whole: 0, lost: 0, doubled: 0, reordered: 0, strange: 0, extra: 0, untrue: 0, reasons: {} };
    await Promise.all(this.players.map(async (player) => {
      const found = compare(player.seen, places);
      for (const key of ['lost', 'doubled', 'reordered', 'strange']) total[key] += found[key];
      total.recovered += player.recoveries >= cuts ? 1 : 0;
      total.extra += Math.max(0, player.connects - 1 - cuts);
      const isWhole = await player.isWhole().catch(() => false);
      total.whole += isWhole ? 1 : 0;
      total.untrue += this.isTrue(player, cuts) ? 0 : 1;
      for (const reason of player.reasons) total.reasons[reason] = (total.reasons[reason] ?? 0) + 1;
    }));
    const sorted = this.backMs.sort((a, b) => a - b);
    const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN);
    return { clients: this.players.length, words: places.size, ...total, backMs: { half: at(0.5), all: at(1) } };
  }

  /** Whether who was refused was told why, and rightly: a session is forgotten after a second window. */
  isTrue({ reasons, recoveries, backAt }, cuts) {
    if (recoveries >= cuts) return reasons.length === 0;
    const mayBeForgotten = backAt - this.cutAt > this.window * 1.8;
    return reasons.length === 1 && (reasons[0] === this.refused || (mayBeForgotten && reasons[0] === 'unknown_session'));
  }

  end() {
    clearInterval(this.flowing);
    for (const { socket } of [...this.players, ...this.speakers, ...(this.other ?? []), this.witness]) socket?.disconnect();
    this.proxy.close();
  }
}

/** Plays one scenario with servers of its own; gives what came of it. */
export async function play(subjectName, scenarioName, clients) {
  const subject = await SUBJECTS[subjectName](3, windowOf(scenarioName));
  try {
    return await playAgainst(subject, scenarioName, clients);
  } finally {
    await subject.stop();
  }
}

/** How long sessions must live for a scenario, in ms. */
export const windowOf = (scenarioName) => SCENARIOS[scenarioName].window ?? 120_000;

/** Plays one scenario against servers that are there, two of which it harms. */
export async function playAgainst(subject, scenarioName, clients) {
  const { cuts, options, play: deed, refused, most = Infinity } = SCENARIOS[scenarioName];
  const run = new Run(subject, await Proxy.start(), { refused, window: windowOf(scenarioName) });
  try {
    await run.connect(Math.min(clients, most), options);
    await deed(run);
    return { subject: subject.title, scenario: scenarioName, cuts, ...(await run.judge(cuts)) };
  } finally {
    run.end();
  }
}

/** What differs from how it must be; empty when all is well. */
export function faultsOf(result) {
  const { clients, scenario } = result;
  const { refused } = SCENARIOS[scenario];
  const wanted = refused
    ? { recovered: 0, whole: 0, doubled: 0, reordered: 0, strange: 0, extra: 0, untrue: 0 }
    : { recovered: clients, whole: clients, lost: 0, doubled: 0, reordered: 0, strange: 0, extra: 0, untrue: 0 };
  return Object.entries(wanted)
    .filter(([key, value]) => JSON.stringify(result[key]) !== JSON.stringify(value))
    .map(([key, value]) => `${key}: ${JSON.stringify(result[key])}, not ${JSON.stringify(value)}`);
}

/** Rows of a Markdown table. */
export function tableOf(results) {
  const head = ['case', 'server', 'recovered', 'state kept', 'words lost', 'doubled', 'out of order', 'connects too many', 'half / all back'];
  const rows = results.map((r) => [
    SCENARIOS[r.scenario].title, r.subject, `${r.recovered}/${r.clients}`, `${r.whole}/${r.clients}`,
    r.lost, r.doubled, r.reordered, r.extra, `${(r.backMs.half / 1000).toFixed(1)} / ${(r.backMs.all / 1000).toFixed(1)} s`,
  ]);
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

async function main() {
  const { values } = parseArgs({
    options: {
      subjects: { type: 'string', default: 'npm,hub' },
      scenarios: { type: 'string', default: Object.keys(SCENARIOS).join(',') },
      clients: { type: 'string', default: '50' },
    },
  });
  const results = [];
  for (const scenario of values.scenarios.split(',')) {
    for (const subject of values.subjects.split(',')) {
      try {
        results.push(await play(subject, scenario, Number(values.clients)));
        console.error(JSON.stringify(results.at(-1)));
        const faults = subject === 'npm' ? [] : faultsOf(results.at(-1));
        if (faults.length > 0) throw new Error(faults.join('; '));
      } catch (error) {
        process.exitCode = 1;
        console.error(`${scenario} against ${subject}: ${error.message}`);
      }
    }
  }
  console.log(tableOf(results));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
