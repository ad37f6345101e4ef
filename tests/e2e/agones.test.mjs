// A game server with the published Agones SDK, unmodified: over gRPC as the package has it, over HTTP as others do (S1-6, S1-7, S1-8).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import process from 'node:process';
import { promisify } from 'node:util';

import { config } from './configs.mjs';
import { BIN, isAlive, pause, test, until, withGreenroom } from './harness.mjs';

const SERVER = new URL('./agones-server.mjs', import.meta.url).pathname;

const game = ({ kind = 'room', min = 0 } = {}) => `
[fleets.game]
kind = "${kind}"
command = ["node", "${SERVER}"]
agones = true
probe = "sdk:3s"
${kind === 'room' ? 'rooms_per_server = 1\nseats_per_room = 2\n' : ''}replicas_min = ${min}
replicas_max = 4

[fleets.game.autoscale]
cooldown_out = "0s"
cooldown_in = "1s"
settle_in = "1s"
`;

const cli = (greenroom, ...words) => promisify(execFile)(BIN, ['--server', greenroom.url, ...words]);

/** One game server as a test sees it: what it tells Greenroom, and what Greenroom tells of it. */
class Game {
  constructor(greenroom, { name, endpoint }) {
    this.greenroom = greenroom;
    this.name = name;
    this.url = `http://${endpoint}/`;
  }

  /** What the SDK answers; an error as `{code, message}`. */
  async ask(...call) {
    const answer = await fetch(this.url, { method: 'POST', body: JSON.stringify(call), signal: AbortSignal.timeout(10_000) });
    return answer.json();
  }

  async say(...call) {
    const { result, code, message } = await this.ask(...call);
    assert.equal(code ?? message, undefined, `${call}: ${message}`);
    return result;
  }

  async told() {
    return (await all(this.greenroom)).find(({ name }) => name === this.name);
  }

  async is(state, ms) {
    await until(() => `${this.name} is ${state}`, async () => (await this.told())?.state === state, ms);
  }
}

const all = async (greenroom) => (await greenroom.get('/v1/gameservers')).gameservers.filter(({ state }) => state !== 'stopped');

/** Whole servers: those whose game answers. */
async function games(greenroom, count) {
  await until(`${count} run`, async () => {
    const there = await all(greenroom);
    const answers = await Promise.all(there.map(({ endpoint }) => endpoint && fetch(`http://${endpoint}/`).then((answer) => answer.ok, () => false)));
    return there.length === count && answers.every(Boolean);
  }, 60_000);
  return (await all(greenroom)).map((told) => new Game(greenroom, told));
}

/** Looks again and again whether something stays as it is. */
async function lasts(ms, look) {
  for (const end = Date.now() + ms; Date.now() < end; await pause(200)) await look();
}

async function killAgent(greenroom) {
  const { pid } = await greenroom.part(' agent');
  process.kill(pid, 'SIGKILL');
  await until('its agent is gone', () => !isAlive(pid));
  await until('the next one runs', async () => (await greenroom.part(' agent')).pid !== pid);
}

test('a server that says it is in use is kept from scale-in and gets no room, also over its agent\'s death', async (t) => {
  const greenroom = await withGreenroom(t, config([game()], { reservation: '1s' }), { ports: 10 });
  await cli(greenroom, 'scale', 'game=2', '--for', '10m');
  const [one, other] = await games(greenroom, 2);
  const give = (timeout_ms) => greenroom.post('/v1/fleets/game/rooms', { players: ['ann'], timeout_ms });
  assert.equal((await one.told()).state, 'starting');
  assert.equal((await give(500)).status, 503, 'nobody is sent to a server that has not said Ready');

  await one.say('ready');
  await one.is('ready');
  const first = await give(10_000);
  assert.equal(first.body.server, one.name);
  await one.is('reserved');

  // The players come: the game says that it is in use, and its room lasts though nobody tells of it, until the game is over.
  await one.say('allocate');
  await one.is('allocated');
  assert.match((await one.told()).message, /in use by its own word/);
  const room = () => greenroom.get(`/v1/rooms/${first.body.room}`);
  await lasts(5_000, async () => assert.equal((await room()).ended ?? null, null, 'its reservation of 1 s is over, the room is not'));
  await one.say('ready');
  await until('the room is over', async () => (await room()).ended === 'no_show');
  await one.is('ready');

  // In use without any room: what is given goes elsewhere.
  await one.say('allocate');
  await one.is('allocated');
  await other.say('ready');
  await other.is('ready');
  for (let i = 0; i < 3; i += 1) {
    const { body } = await give(20_000);
    assert.equal(body.server, other.name, 'a room goes where nobody says that it is in use');
    await other.say('allocate');
    await other.say('ready');
    await other.is('ready', 20_000);
  }

  await killAgent(greenroom);
  const { result } = await until('the sdk has found it again', async () => {
    const answer = await one.ask('record');
    return answer.result && answer;
  });
  assert.equal(result.uid, `${one.name}.0`, 'the process is the same');
  assert.equal(result.status.state, 'Allocated', 'the next agent knows it');
  // The SDK of Node.js has lost its stream of health for good: that is no reason to take it out of rotation.
  await one.is('allocated');
  await lasts(5_000, async () => assert.equal((await one.told()).state, 'allocated'));

  await cli(greenroom, 'scale', 'game=0');
  await until('the other is gone', async () => (await all(greenroom)).map(({ name }) => name).join() === one.name, 30_000);
  await lasts(4_000, async () => assert.equal((await one.told())?.state, 'allocated', 'four times the settling time have passed'));
  await one.say('ready');
  await until('and goes when it is free', async () => (await all(greenroom)).length === 0, 30_000);
});

test('the shipped sdk watches, reserves, labels, counts players, and is told what is not there', async (t) => {
  const greenroom = await withGreenroom(t, config([game({ kind: 'mesh' })]), { ports: 10 });
  await cli(greenroom, 'scale', 'game=1', '--for', '10m');
  const [one] = await games(greenroom, 1);
  const state = async () => (await one.say('record')).status.state;
  assert.equal(await state(), 'Scheduled');
  await one.say('ready');
  assert.equal(await state(), 'Ready');
  await one.is('ready');

  await one.say('setLabel', 'map', 'desert');
  await one.say('setAnnotation', 'session', 'the seventh, of any words');
  const { labels, annotations, status } = await one.say('record');
  assert.equal(labels['agones.dev/sdk-map'], 'desert');
  assert.equal(labels['agones.dev/fleet'], 'game');
  assert.equal(annotations['agones.dev/sdk-session'], 'the seventh, of any words');
  assert.equal(`http://${status.address}:${status.portsList[0].port}/`, one.url);
  await until('its label is shown', async () => (await one.told()).labels.map === 'desert');
  assert.deepEqual(await one.ask('setLabel', 'a map', 'x').then(({ code }) => code), 3);

  // A reservation runs out by itself, and the watch has seen it come and go.
  const began = Date.now();
  await one.say('reserve', 4);
  assert.equal(await state(), 'Reserved');
  await one.is('allocated');
  const endpoint = await greenroom.get('/v1/fleets/game/endpoint', { raw: true });
  assert.equal(endpoint.status, 200, `who waits is sent there: ${endpoint.text}`);
  assert.ok(Date.now() - began >= 4_000, 'and not before it is free');
  await until('it is free again', async () => (await state()) === 'Ready');
  await one.is('ready');
  const seen = (await one.say('watched')).map(({ state }) => state).filter((state, i, every) => state !== every[i - 1]);
  assert.deepEqual(seen, ['Scheduled', 'Ready', 'Reserved', 'Ready']);
  assert.equal((await one.say('watched')).at(-1).labels['agones.dev/sdk-map'], 'desert');
  assert.deepEqual(await one.ask('reserve', -1).then(({ code }) => code), 3);

  // Players one by one: they are its connections.
  await one.say('alpha.setPlayerCapacity', 2);
  assert.equal(await one.say('alpha.playerConnect', 'ann'), true);
  assert.equal(await one.say('alpha.playerConnect', 'ann'), false);
  assert.equal(await one.say('alpha.playerConnect', 'bob'), true);
  assert.deepEqual(await one.ask('alpha.playerConnect', 'cid').then(({ code }) => code), 8);
  assert.deepEqual(await one.say('alpha.getConnectedPlayers'), ['ann', 'bob']);
  assert.equal(await one.say('alpha.getPlayerCount'), 2);
  assert.equal(await one.say('alpha.getPlayerCapacity'), 2);
  assert.equal(await one.say('alpha.isPlayerConnected', 'bob'), true);
  await until('they are counted', async () => (await one.told()).connections === 2);
  assert.equal(await one.say('alpha.playerDisconnect', 'ann'), true);
  assert.equal(await one.say('alpha.playerDisconnect', 'bob'), true);
  await one.is('ready');

  // What nothing here would act on is refused, with what to use instead.
  for (const call of [['beta.getCounterCount', 'rooms'], ['beta.incrementCounter', 'rooms', 1], ['beta.appendListValue', 'players', 'ann']]) {
    const { code, message } = await one.ask(...call);
    assert.equal(code, 12);
    assert.match(message, /counters and lists are not kept.*PlayerConnect/);
  }

  // Silence takes it out of rotation, a beat brings it back.
  await one.say('beat', false);
  await one.is('unhealthy');
  assert.match((await one.told()).message, /health/i);
  await one.say('beat', true);
  await one.is('ready');
});

test('the same port speaks http, and shutdown ends a server whose fleet then starts another', async (t) => {
  const greenroom = await withGreenroom(t, config([game()]), { ports: 10 });
  await cli(greenroom, 'scale', 'game=1', '--for', '10m');
  const [one] = await games(greenroom, 1);
  const { pid } = await one.told();
  const { readFile } = await import('node:fs/promises');
  const environ = Object.fromEntries((await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').map((line) => line.split(/=(.*)/s)));
  const port = environ.AGONES_SDK_HTTP_PORT;
  const http = async (method, path, body) => {
    const answer = await fetch(`http://localhost:${port}${path}`, { method, body: body && JSON.stringify(body) });
    return [answer.status, await answer.json()];
  };
  assert.deepEqual(await http('POST', '/ready', {}), [200, {}]);
  assert.deepEqual(await http('POST', '/allocate', {}), [200, {}]);
  assert.equal((await http('GET', '/gameserver'))[1].status.state, 'Allocated');
  assert.equal((await one.say('record')).status.state, 'Allocated', 'both faces tell the same');
  assert.deepEqual(await http('POST', '/reserve', { seconds: '60' }), [200, {}]);
  assert.equal((await http('GET', '/gameserver'))[1].status.state, 'Reserved');
  assert.deepEqual(await http('PUT', '/metadata/annotation', { key: 'a', value: 'b' }), [200, {}]);
  assert.deepEqual(await http('POST', '/alpha/player/connect', { playerID: 'ann' }), [200, { bool: true }]);
  assert.deepEqual(await http('GET', '/alpha/player/count'), [200, { count: '1' }]);
  assert.deepEqual(await http('GET', '/alpha/player/connected/ann'), [200, { bool: true }]);
  assert.equal((await http('GET', '/v1beta1/counters/rooms'))[0], 501);
  assert.deepEqual(await http('POST', '/alpha/player/disconnect', { playerID: 'ann' }), [200, { bool: true }]);

  await one.ask('shutdown').catch(() => {}); // it may be gone before it has answered
  await until('its process is gone', () => !isAlive(pid));
  const [next] = await games(greenroom, 1);
  assert.notEqual(next.name, one.name);
  await assert.rejects(fetch(`http://127.0.0.1:${port}/gameserver`), 'its port is closed');
  await next.say('ready');
  await next.is('ready');
});
