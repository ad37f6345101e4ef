// Three replicas, two hosts, a Redis and players, each on a machine of its own, under faults drawn by a seed; then the judge.
//
//   node cluster/run.mjs --seconds 60 --seed 7
//   node cluster/run.mjs --older /path/to/another/greenroom    # no faults: all of it is exchanged for GREENROOM_BIN, and back
//
// Prints what came of it as JSON on the standard output, and ends with 1 when something was wrong. With --folder all that is known
// of the run, logs too, is kept there however it ends.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';

import { BIN, pause } from '../harness.mjs';
import { Callers } from './callers.mjs';
import { Hand, draw } from './faults.mjs';
import { judge } from './judge.mjs';
import { Cluster } from './members.mjs';
import { inside, isInside } from './net.mjs';
import { Exchange } from './upgrade.mjs';

const RESTS_WITHIN = 60_000;
/** How a swarm ends whose first question had no answer. */
const UNANSWERED = 69;

/** Guilds of four who come at once, talk and go. Nobody's room may end below them. */
const GUILDS = `
name = "guilds"
players = 40
group_players = 4

[arrival]
shape = "ramp"
over = "4s"
together = true

[reconnect]
within = "45s"
delay = "500ms"
recovered = "may"
rooms = "stay"

[checks.sequence]
socket = "game"
event = "line"
sender = "from"
number = "text"
scope = "group"

[[step]]
do = "join"
fleet = "chat"
key = "swarm:{seed}:{group}"
within = "90s"

[[step]]
do = "connect"
socket = "game"
within = "45s"

# Who has left frees a seat, so nobody leaves before all have one.
[[step]]
do = "barrier"
within = "120s"

[[step]]
do = "play"
socket = "game"
event = "say"
argument = '"{stamp}"'
every = "500ms"
lasting = "4s"

[[step]]
do = "leave"
socket = "game"
`;

/** Waves of players until it is over, so that servers are started and stopped all the time. */
class Swarms {
  reports = [];
  unbegun = 0;
  isOver = false;

  constructor(cluster, seed) {
    Object.assign(this, { cluster, seed });
  }

  async begin() {
    this.file = path.join(this.cluster.folder, 'guilds.toml');
    await writeFile(this.file, GUILDS);
    this.running = this.#waves();
  }

  async #waves() {
    for (let wave = 1; !this.isOver; wave += 1) {
      const report = await this.#wave(this.seed * 1_000 + wave);
      // Nobody has come yet when it asks for its fleets and the store is away for longer than it waits.
      if (report.code === UNANSWERED) this.unbegun += 1;
      else this.reports.push(report);
      // Long enough for rooms to end and for servers to be given up.
      for (let left = 40; left > 0 && !this.isOver; left -= 1) await pause(100);
    }
  }

  #wave(seed) {
    const json = path.join(this.cluster.folder, `swarm-${seed}.json`);
    const args = ['swarm', 'run', this.file, '--server', this.cluster.balancer.url, '--seed', String(seed), '--json', json];
    const env = { ...process.env, GREENROOM_TOKEN: this.cluster.token };
    return new Promise((done) => execFile(BIN, args, { env, timeout: 240_000, maxBuffer: 1e8 }, async (error, out, err) => {
      const report = await readFile(json, 'utf8').then(JSON.parse, () => ({ counts: { faults: 0, finished: 0 }, violations: [err.slice(-500)] }));
      const { counts: { faults, finished, reconnects } } = report;
      const words = (report.violations ?? []).map((violation) => JSON.stringify(violation));
      done({ seed, code: error ? (error.code ?? error.signal) : 0, finished, faults, reconnects, violations: words, said: faults ? out.slice(-1_500) : '' });
    }));
  }

  async end() {
    this.isOver = true;
    await this.running;
  }
}

async function play({ seconds, seed, folder, older }) {
  const began = Date.now();
  const timeline = [];
  const say = (text) => {
    timeline.push([Date.now(), text]);
    console.error(`${((Date.now() - began) / 1_000).toFixed(1).padStart(6)} s  ${text}`);
  };
  say(`seed ${seed}, ${older ? `from ${older} to ${BIN} and back` : `${seconds} s`}`);
  const cluster = await Cluster.start({ folder, bin: older || BIN });
  try {
    const callers = new Callers(cluster.balancer, 'vault', { keys: Array.from({ length: 8 }, (_, i) => `guild:${i}`), every: 100 });
    await callers.begin();
    const swarms = new Swarms(cluster, seed);
    await swarms.begin();
    say('it begins');
    const hand = older ? new Exchange(cluster, say) : new Hand(cluster, say);
    await hand.run(older ? { older, newer: BIN } : draw(seed, seconds));
    say('it is over');
    await Promise.all([callers.end(), swarms.end()]);
    await cluster.calm(RESTS_WITHIN);
    say('all is at rest');
    await callers.again();
    const run = await gather({ cluster, callers, swarms, hand, seed, seconds, timeline });
    // A planned change must not even make a caller ask again.
    if (older && Object.keys(run.heldOff).length > 0) run.wrong.push(`callers were told to ask again: ${JSON.stringify(run.heldOff)}`);
    return run;
  } finally {
    await cluster.stop();
  }
}

async function gather({ cluster, callers, swarms, hand, seed, seconds, timeline }) {
  const { births, alive } = await cluster.processes();
  const { fleets } = await cluster.get('/v1/fleets');
  const { gameservers } = await cluster.get('/v1/gameservers');
  const { slos } = await cluster.get('/v1/slos');
  const run = {
    seed, seconds, births, alive, known: gameservers.map(({ name }) => name), trail: await cluster.trail(),
    rooms: await cluster.pages('/v1/rooms?fleet=vault', 'rooms'), answers: callers.answers, failures: callers.failures,
    terms: [...cluster.balancer.terms].map(([term, names]) => [term, [...names]]),
    standing: { leaders: cluster.balancer.leaders, replicas: cluster.balancer.replicas.map(({ name, ready }) => ({ name, ready })), fleets },
    slos, swarms: swarms.reports, unbegun: swarms.unbegun, faults: hand.done, timeline, skipped: hand.skipped ?? 0, heldOff: callers.heldOff,
  };
  return { ...run, wrong: judge(run) };
}

/** What a person wants to know of a run. */
function summary({ seed, seconds, wrong, answers, failures, heldOff, faults, skipped, births, trail, terms, swarms, unbegun }) {
  const times = (wasKnown) => {
    const all = answers.filter((answer) => answer.wasKnown === wasKnown).map(({ ms }) => ms).sort((a, b) => a - b);
    const at = (share) => all[Math.min(all.length - 1, Math.floor(all.length * share))];
    return { calls: all.length, median: at(0.5), p99: at(0.99), longest: at(1) };
  };
  const sum = (key) => swarms.reduce((so, swarm) => so + (swarm[key] ?? 0), 0);
  return {
    seed, seconds, wrong, faults, skipped, terms: terms.length, failed: failures.length, heldOff,
    existingMs: times(true), newMs: times(false), rooms: new Set(answers.map(({ room }) => room)).size,
    started: births.length, stopped: trail.filter(({ action }) => action === 'server_stopped').length,
    players: { waves: swarms.length, unbegun, finished: sum('finished'), reconnects: sum('reconnects'), faults: sum('faults') },
  };
}

const option = (fallback) => ({ type: 'string', default: String(fallback) });

/** Inside of its namespaces it plays; outside it goes there, and keeps the folder of a run that went wrong. */
async function main() {
  const { values } = parseArgs({ options: { seconds: option(60), seed: option(Math.floor(Math.random() * 1e6)), folder: option(''), older: option('') } });
  if (!isInside()) {
    const folder = values.folder || (await mkdtemp(path.join(os.tmpdir(), 'greenroom-cluster-')));
    const again = ['seconds', 'seed', 'older'].flatMap((name) => (values[name] ? [`--${name}`, values[name]] : []));
    process.exitCode = await inside(fileURLToPath(import.meta.url), ['--folder', folder, ...again]);
    if (process.exitCode === 0 && !values.folder) await rm(folder, { recursive: true, force: true });
    else console.error(`logs and all that is known of it: ${folder}; again: ${again.join(' ')}`);
    return;
  }
  const run = await play({ seconds: Number(values.seconds), seed: Number(values.seed), folder: values.folder, older: values.older });
  await writeFile(path.join(values.folder, 'run.json'), JSON.stringify(run));
  for (const { said } of run.swarms) if (said) console.error(said);
  console.log(JSON.stringify(summary(run), null, 1));
  process.exit(run.wrong.length > 0 ? 1 : 0);
}

main().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
