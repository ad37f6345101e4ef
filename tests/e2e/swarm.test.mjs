// The load tester against what a user runs: every scenario that ships goes through, faults of processes are got over, and
// the same players go to a plain npm server (S2-31, S2-32, S2-1, S0-42).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { WebSocketServer } from 'ws';

import { arena, chat, config, lobby, whiteboard } from './configs.mjs';
import { BIN, freePorts, test, until, withGreenroom } from './harness.mjs';
import { Redis } from './redis.mjs';

const SEED = 4711;
console.log(`seed ${SEED}`);

/** Runs `greenroom swarm ARGS` in `folder`; gives its exit code, its report, and what it said. */
async function swarm(folder, args, { code = 0, report = true } = {}) {
  const child = spawn(BIN, ['swarm', ...args, ...(report ? ['-o', 'json'] : [])], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk) => (out += chunk));
  child.stderr.on('data', (chunk) => (err += chunk));
  const [exit] = await once(child, 'exit');
  if (code !== null) assert.equal(exit, code, `swarm ${args.join(' ')} ended with ${exit}:\n${err.slice(-3000)}\n${out.slice(0, 3000)}`);
  return { out, err, report: report && out ? JSON.parse(out) : undefined };
}

/** A shipped scenario with some lines replaced, as a file in `folder`. */
async function changed(folder, name, changes) {
  const { out } = await swarm(folder, ['scenarios', name], { report: false });
  let text = out;
  for (const [from, to] of changes) {
    assert.ok(text.includes(from), `${name} has ${from}`);
    text = text.replaceAll(from, to);
  }
  const file = path.join(folder, `${name}-changed.toml`);
  await writeFile(file, text);
  return file;
}

async function folderFor(t) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-swarm-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('every scenario that ships goes through its fleet, in one process and in two', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(), arena({ min: 4, max: 6 }), chat({ recovery: '2m' }), whiteboard()]));
  const { folder, url } = greenroom;
  const short = ['lasting = "15s"', 'lasting = "3s"'];
  const go = (file, ...more) => swarm(folder, ['run', file, '--server', url, '--seed', String(SEED), ...more]);

  const { report: talk } = await go(await changed(folder, 'chat', [short]), '--players', '40', '--processes', '2');
  assert.equal(talk.counts.finished, 40);
  assert.equal(talk.rooms, 10);
  const delivered = talk.measures.find(({ measure }) => measure === 'deliver');
  assert.equal(delivered.count, talk.counts.inputs_sent * 4, 'each line reached all four, and all were measured');
  assert.ok(talk.server.cpu_seconds >= 0 && talk.server.processes >= 2);

  const patient = ['lobby', 'game'].map((to) => [`do = "connect"\nsocket = "${to}"`, `do = "connect"\nsocket = "${to}"\nwithin = "60s"`]);
  const match = await changed(folder, 'lobby-match-game', [short, ['over = "10s"', 'over = "3s"'], ...patient]);
  const html = path.join(folder, 'report.html');
  const { report: matched } = await go(match, '--players', '200', '--html', html, '--threshold', 'faults<1');
  assert.equal(matched.counts.assigned, 200);
  assert.equal(matched.rooms, 50);
  assert.deepEqual(matched.thresholds.map(({ broken }) => broken), [null]);
  assert.match(await readFile(html, 'utf8'), /<header class="passed">/);

  const { report: drawn } = await go(await changed(folder, 'whiteboard', [short]), '--players', '10');
  assert.equal(drawn.counts.finished, 10);
  assert.ok(drawn.counts.events_received > drawn.counts.inputs_sent, 'everybody saw the others draw');

  const back = await changed(folder, 'reconnect', [['lasting = "20s"', 'lasting = "6s"'], ['every = "5s"', 'every = "2s"']]);
  const { report: cut } = await go(back, '--players', '16');
  assert.ok(cut.counts.reconnects >= 16, `each came back at least once: ${cut.counts.reconnects}`);
  assert.equal(cut.counts.recovered, cut.counts.reconnects, 'each as the same session, from the right position');
  assert.equal(cut.counts.finished, 16);
});

test('slow readers, silent peers, spikes and storms are borne', async (t) => {
  const greenroom = await withGreenroom(t, config([chat()]));
  const { folder, url } = greenroom;
  const shapes = ['shape = "spike"\nat = "1s"\nshare = 0.8', 'shape = "storm"\nat = "1s"', 'shape = "rate"\nper_second = 20.0'];
  for (const [nth, shape] of shapes.entries()) {
    // A member who is silent says nothing, so that nobody waits for its last line.
    const file = await changed(folder, 'chat', [
      ['shape = "ramp"', shape],
      ['over = "5s"', shape.includes('spike') ? 'over = "3s"' : ''],
      ['lasting = "15s"', 'lasting = "3s"'],
      ['[checks.sequence]', '[peers]\nslow = 0.2\nhalf_open = 0.2\n\n[checks.sequence]'],
    ]);
    const { report } = await swarm(folder, ['run', file, '--server', url, '--seed', String(SEED + nth), '--players', '40']);
    assert.equal(report.counts.playing, 40, shape);
    assert.ok(report.counts.finished + report.counts.shed === 40, `${shape}: ${JSON.stringify(report.counts)}`);
  }
});

test('two runs of one seed do the same, and another seed does not', async (t) => {
  const greenroom = await withGreenroom(t, config([chat()]));
  const { folder, url } = greenroom;
  const file = await changed(folder, 'chat', [['lasting = "15s"', 'lasting = "3s"'], ['"{stamp}"', '"{stamp} {axis}"'], ['whole = true', '']]);
  const text = (await readFile(file, 'utf8')).replace(/\[checks\.sequence\][^[]*/, '');
  await writeFile(file, text);
  const actions = async (seed, ...more) => {
    const to = path.join(folder, `actions-${seed}.txt`);
    await swarm(folder, ['run', file, '--server', url, '--seed', String(seed), '--players', '40', '--actions', to, ...more]);
    return readFile(to, 'utf8');
  };
  const first = await actions(SEED);
  assert.match(first, /^0 join swarm:4711:0\n0 connect game\n0 meet\n0 emit game say "1 -?\d+"\n/, 'the first player, in order');
  assert.equal(await actions(SEED), first);
  assert.equal(await actions(SEED, '--processes', '3'), first, 'however they are shared out');
  assert.notEqual((await actions(SEED + 1)).replaceAll(`${SEED + 1}`, `${SEED}`), first);
});

test('processes are killed and frozen, and the players get over it', async (t) => {
  const greenroom = await withGreenroom(t, config([chat()]));
  const { folder, url } = greenroom;
  const plan = ['kill:chat@3s', 'freeze:control@6s+2s', 'kill:control@10s', 'freeze:chat@12s+1s'];
  const { report } = await swarm(folder, [
    'chaos', '--server', url, '--seed', String(SEED), '--players', '80', ...plan.flatMap((one) => ['--plan', one]),
  ]);
  assert.deepEqual(report.marks.map(({ text }) => text), plan);
  const { finished, rooms_lost, reconnects } = report.counts;
  assert.equal(finished + rooms_lost, 80, 'everybody finished, but those whose room died with its process');
  assert.ok(rooms_lost > 0 || reconnects > 0, 'somebody noticed the kill');
  await until('nothing stays frozen', async () => (await greenroom.get('/readyz', { raw: true })).status === 200);
  const { err } = await swarm(folder, ['chaos', '--server', url, '--players', '4', '--plan', 'kill:nobody@1s'], { code: 1, report: false });
  assert.match(err, /not everything planned was done: kill:nobody@1s was not done: fleet nobody has no process here/);
});

test('servers of a mesh and their agent are killed, and every player keeps its session and every stroke', async (t) => {
  const { folder, url } = await withGreenroom(t, config([whiteboard(2, { recovery: '2m' })]));
  const file = await changed(folder, 'whiteboard', [
    ['[checks.sequence]', '[reconnect]\nwithin = "30s"\ndelay = "500ms"\nrecovered = "must"\n\n[checks.sequence]'],
  ]);
  const plan = ['kill:whiteboard@5s', 'kill:agent@10s'];
  const { report } = await swarm(folder, [
    'chaos', file, '--server', url, '--seed', String(SEED), '--players', '30', ...plan.flatMap((one) => ['--plan', one]),
  ]);
  assert.equal(report.counts.finished, 30);
  assert.ok(report.counts.reconnects > 0, 'somebody was on the killed one');
  assert.equal(report.counts.recovered, report.counts.reconnects);
});

// Over a Redis that is cut off, frozen and cut off again, everybody still hears everybody once and in order.
test('the store is cut off and frozen, and nobody misses, doubles or reorders an event', async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.stop());
  const fleet = `
[fleets.relay]
kind = "mesh"
command = ["greenroom", "example", "relay", "--recovery", "1m", "--redis", "${redis.url}"]
replicas_min = 2
replicas_max = 2
`;
  const { folder, url } = await withGreenroom(t, config([fleet]));
  const file = path.join(folder, 'all.toml');
  await writeFile(file, `
name = "all"
players = 20
group_players = 20
[arrival]
shape = "ramp"
over = "1s"
[checks.sequence]
socket = "game"
event = "all"
sender = "from"
number = "n"
scope = "everybody"
whole = true
[[step]]
do = "find"
fleet = "relay"
[[step]]
do = "connect"
socket = "game"
[[step]]
do = "barrier"
[[step]]
do = "play"
socket = "game"
event = "all"
argument = '{"from":"{player}","n":"{stamp}"}'
every = "200ms"
lasting = "10s"
[[step]]
do = "think"
least = "3s"
most = "3s"
[[step]]
do = "barrier"
[[step]]
do = "leave"
socket = "game"
`);
  const plan = ['cut:store@3s+1s', 'freeze:store@6s+1s', 'cut:store@9s+300ms'];
  const hurt = (store, expected) =>
    swarm(folder, ['chaos', file, '--server', url, '--seed', String(SEED), ...plan.flatMap((one) => ['--plan', one]), ...store], expected);
  const { report } = await hurt(['--store', redis.url]);
  assert.deepEqual(report.marks.map(({ text }) => text), plan);
  assert.equal(report.counts.finished, 20);
  const delivered = report.measures.find(({ measure }) => measure === 'deliver');
  assert.equal(delivered.count, report.counts.inputs_sent * 20, 'each event reached all twenty');
  assert.ok(delivered.max_ms > 500, `the cuts were felt: ${JSON.stringify(delivered)}`);
  const { err: unnamed } = await hurt([], { code: 64, report: false });
  assert.match(unnamed, /which one is not told/);
  const { err: wrong } = await hurt(['--store', 'redis://127.0.0.1:1'], { code: 64, report: false });
  assert.match(wrong, /the store redis:\/\/127.0.0.1:1 cannot be reached/);
});

test('the largest load within a limit is found against the relay', async (t) => {
  const folder = await folderFor(t);
  const port = await freePorts(1);
  const relay = spawn(BIN, ['example', 'relay', String(port)], { stdio: 'ignore' });
  t.after(() => relay.kill());
  await until('the relay listens', () => fetch(`http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling`));
  const file = path.join(folder, 'echo.toml');
  await writeFile(file, `
name = "echo"
players = 8
[arrival]
shape = "storm"
at = "200ms"
[[step]]
do = "address"
url = "http://127.0.0.1:${port}"
[[step]]
do = "connect"
socket = "game"
[[step]]
do = "play"
socket = "game"
event = "echo"
argument = '"{stamp}"'
every = "100ms"
lasting = "1s"
ack_within = "5s"
[[step]]
do = "leave"
socket = "game"
`);
  const find = (threshold, code = 0) =>
    swarm(folder, ['find-limit', file, '--players-max', '32', '--server-pids', String(relay.pid), '--threshold', threshold], { code, report: false });
  // A generator that was late itself says so and judges nothing: on a busy machine it is asked again.
  let out;
  for (let tries = 0; tries < 8 && /bottleneck/.test(out ?? 'bottleneck'); tries += 1) ({ out } = await find('ack_p99_ms<3000', null));
  assert.match(out, /^8 players: kept\n16 players: kept\n32 players: kept\nlimit: at least 32 players/);
  const { err } = await find('ack_p99_ms<0.000001', 3);
  assert.match(err, /no load kept the thresholds/);
  const { err: usage } = await swarm(folder, ['find-limit', file], { code: 64, report: false });
  assert.match(usage, /a limit needs a threshold to keep/);
});

test('a bare websocket server that echoes is judged, and one that doubles is caught', async (t) => {
  const folder = await folderFor(t);
  for (const [doubles, code] of [[false, 0], [true, 1]]) {
    const server = http.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => {
      socket.on('message', (message) => {
        socket.send(message.toString());
        if (doubles) socket.send(message.toString());
      });
    });
    t.after(() => server.close());
    const file = await changed(folder, 'raw-websocket', [
      ['http://127.0.0.1:9000', `http://127.0.0.1:${server.address().port}`],
      ['lasting = "10s"', 'lasting = "2s"'],
      ['every = "1s"', 'every = "200ms"'],
    ]);
    const { report } = await swarm(folder, ['run', file, '--players', '20'], { code });
    assert.equal(report.counts.finished, 20);
    assert.equal(report.violations.some(({ violation }) => violation === 'event_doubled'), doubles);
  }
});

test('the same scenarios go to a plain npm server, which recovers sessions in its own memory', async (t) => {
  const folder = await folderFor(t);
  const go = (file, ...more) => swarm(folder, ['run', file, '--target', 'npm', '--seed', String(SEED), ...more]);
  const short = ['lasting = "15s"', 'lasting = "3s"'];
  const { report: talk } = await go(await changed(folder, 'chat', [short]), '--players', '40', '--processes', '2');
  assert.equal(talk.counts.finished, 40);
  assert.equal(talk.server.processes, 1, 'the npm server was looked at');
  const { report: matched } = await go(await changed(folder, 'lobby-match-game', [short]), '--players', '40');
  assert.equal(matched.rooms, 10);
  const { report: drawn } = await go(await changed(folder, 'whiteboard', [short]), '--players', '10');
  assert.equal(drawn.counts.finished, 10);
  // Its recovery needs one event as a place to start from, so the first cut comes late enough.
  const back = await changed(folder, 'reconnect', [
    ['lasting = "20s"', 'lasting = "8s"'],
    ['shape = "churn"\nevery = "5s"', 'shape = "churn"\nevery = "3s"'],
  ]);
  const { report: cut } = await go(back, '--players', '16');
  assert.ok(cut.counts.reconnects >= 16, `${cut.counts.reconnects} reconnects`);
  assert.equal(cut.counts.recovered, cut.counts.reconnects, 'each as the same session, from the right position');
});
