// Rooms that outlive their process: `kill -9`, SIGTERM and restarts of a gameserver while its players act, stock clients, real
// processes.
import assert from 'node:assert/strict';
import process from 'node:process';

import { io } from 'socket.io-client';

import { chat, config } from './configs.mjs';
import { pause, test, until, withGreenroom } from './harness.mjs';
import { Redis } from './redis.mjs';

const KILLS = 3;
const NAMES = ['ann', 'bob', 'cid', 'dea'];

/** A member of a guild who talks all the time, and comes back by itself. */
class Member {
  constructor(name, url, token) {
    Object.assign(this, { name, lines: [], histories: [], words: [], ids: [], taken: new Set(), refused: [], said: 0 });
    this.socket = io(url, {
      auth: { token, greenroom: { recovery: true } },
      forceNew: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 200,
      transports: ['websocket'],
    });
    this.socket.on('connect', () => this.ids.push(`${this.socket.id} ${this.socket.recovered}`));
    this.socket.on('connect_error', (error) => error.data && this.refused.push(error.message));
    this.socket.on('line', ({ text }) => this.lines.push(text));
    this.socket.on('history', (lines) => this.histories.push(lines.map(({ text }) => text)));
    this.socket.on('greenroom:recovery', (word) => this.words.push(word));
  }

  say() {
    const text = `${this.name} ${(this.said += 1)}`;
    this.socket.emit('say', text, ({ ok }) => ok && this.taken.add(text));
  }

  /** Says something every few milliseconds while it is connected: a room takes 32 inputs of one seat between two ticks. */
  talk() {
    this.talking = setInterval(() => this.socket.connected && this.say(), 20);
  }

  hush() {
    clearInterval(this.talking);
  }
}

async function guild(t, greenroom) {
  const { room, server, seats, url } = await greenroom.allocate('chat', { key: 'guild:42', players: NAMES });
  const members = seats.map(({ player, token }) => new Member(player, url, token));
  t.after(() => members.forEach((member) => (member.hush(), member.socket.disconnect())));
  await until('everybody is in', () => members.every(({ socket }) => socket.connected));
  await until('the room is live', async () => (await greenroom.get(`/v1/rooms/${room}`)).phase === 'live');
  return { room, server, members, url };
}

async function signal(greenroom, server, name) {
  const { pid } = await until('the server has a process', async () => {
    const found = await greenroom.get(`/v1/gameservers/${server}`);
    return found.pid && found;
  });
  process.kill(pid, name);
}

/** How a process of the fleet comes to its end. */
const kill = (greenroom, server) => signal(greenroom, server, 'SIGKILL');
const terminate = (greenroom, server) => signal(greenroom, server, 'SIGTERM');
const restart = async (greenroom) => assert.equal((await greenroom.post('/v1/fleets/chat/restart', {})).status, 200);

/** Plays over several ends of the process, and sees that nothing is missing. */
async function playTo(t, fleet, end = kill) {
  const greenroom = await withGreenroom(t, config([fleet]));
  const { room, server, members } = await guild(t, greenroom);
  const first = members.map(({ socket }) => socket.id);
  members.forEach((member) => member.talk());
  for (let nth = 1; nth <= KILLS; nth += 1) {
    await until('everybody hears everybody', () => members.every(({ lines }) =>
      lines.length >= 40 * nth && NAMES.every((name) => lines.slice(-30).some((line) => line.startsWith(name)))), 30_000);
    await pause(Math.random() * 200);
    await end(greenroom, server);
    await until(() => `everybody is back (${nth}): ${JSON.stringify(members.map(({ ids, words, refused }) => ({ ids, words, refused })))}`,
      () => members.every(({ words, socket }) => words.length === nth + 1 && socket.connected), 40_000);
  }
  members.forEach((member) => member.hush());
  const taken = () => members.flatMap((member) => [...member.taken]);
  await until('what was taken has been said', () => members.every(({ lines }) => {
    const heard = new Set(lines);
    return taken().every((text) => heard.has(text));
  }), 20_000);
  await until('it is quiet', async () => {
    const before = members.map(({ lines }) => lines.length).join();
    await pause(300);
    return members.every(({ lines }) => lines.length === members[0].lines.length)
      && before === members.map(({ lines }) => lines.length).join();
  }, 20_000);

  const [{ lines }] = members;
  assert.ok(lines.length > 100, `${lines.length} lines`);
  assert.equal(new Set(lines).size, lines.length, 'nothing twice');
  for (const member of members) {
    assert.deepEqual(member.lines, lines, `${member.name} heard the same in the same order`);
    assert.deepEqual(member.words.slice(1), Array(KILLS).fill({ recovered: true }), member.name);
    assert.deepEqual(member.refused, []);
    for (const name of NAMES) {
      const numbers = lines.filter((line) => line.startsWith(name)).map((line) => Number(line.split(' ')[1]));
      assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b), `${name}'s words keep their order`);
    }
  }
  assert.deepEqual(members.map(({ socket }) => socket.id), first, 'the same ids');
  const status = await greenroom.get(`/v1/rooms/${room}`);
  assert.deepEqual([status.phase, status.epoch], ['live', 1]);
  assert.equal((await greenroom.get(`/v1/gameservers/${server}`)).restarts, KILLS);
  // The state is that which led to these events, and the key is the room's as ever.
  const again = await greenroom.allocate('chat', { key: 'guild:42', players: ['dan'] });
  assert.equal(again.room, room);
  const dan = new Member('dan', again.url, again.seats[0].token);
  t.after(() => dan.socket.disconnect());
  await until('dan has the history', () => dan.histories.length === 1);
  assert.deepEqual(dan.histories[0], lines.slice(-50));
  members[0].say();
  await until('everybody hears the next word', () => [...members, dan].every((member) => member.lines.at(-1) === `ann ${members[0].said}`));
}

test('commit_first over the hub: a room survives kill -9 while its players act, and nobody misses anything', async (t) => {
  await playTo(t, chat({ min: 1, recovery: '2m' }));
});

test('commit_first over a Redis: the same', async (t) => {
  const redis = await Redis.start({ keeps: 'always' });
  t.after(() => redis.stop());
  await playTo(t, `${chat({ min: 1, recovery: '2m' })}delivery = "commit_first"\nenv = { GREENROOM_REDIS = "${redis.url}" }\n`);
});

const never = 'delivery = "deliver_first"\ncheckpoint_every = "1h"\n';

test('SIGTERM, deliver_first over the hub: the next process goes on with the room, and nobody misses anything', async (t) => {
  await playTo(t, `${chat({ min: 1, recovery: '2m' })}${never}`, terminate);
});

test('a restart by control, deliver_first over a Redis: the same', async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.stop());
  await playTo(t, `${chat({ min: 1, recovery: '2m' })}${never}env = { GREENROOM_REDIS = "${redis.url}" }\n`, restart);
});

test('a restart by control, commit_first over the hub: the same', async (t) => {
  await playTo(t, chat({ min: 1, recovery: '2m' }), restart);
});

test('commit_first over a Redis that is emptied: a room in which nothing happens is kept anew, and survives kill -9', async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.stop());
  const fleet = `${chat({ min: 1, recovery: '2m' })}delivery = "commit_first"\nenv = { GREENROOM_REDIS = "${redis.url}" }\n`;
  const greenroom = await withGreenroom(t, config([fleet]));
  const { room, server, members } = await guild(t, greenroom);
  members[0].say();
  await until('everybody has heard it', () => members.every(({ lines }) => lines.length === 1));
  const isKept = async () => (await redis.ask(`HEXISTS {greenroom:chat:1:rooms:${server}} c:${room}`)) === ':1';
  await until('it is kept', isKept);
  const first = members.map(({ socket }) => socket.id);
  assert.equal(await redis.ask('FLUSHALL'), '+OK');
  await until('it is kept anew', isKept, 5_000);
  await kill(greenroom, server);
  await until('everybody is back', () => members.every(({ words, socket }) => words.length === 2 && socket.connected), 40_000);
  for (const [i, { words, socket, lines }] of members.entries()) {
    assert.deepEqual([words[1], socket.id, lines], [{ recovered: true }, first[i], ['ann 1']]);
  }
  members[1].say();
  await until('it goes on', () => members.every(({ lines }) => lines.at(-1) === 'bob 1'));
  assert.equal((await greenroom.get(`/v1/rooms/${room}`)).epoch, 1);
});

test('deliver_first: whoever has seen more than the last checkpoint is told so, and the room goes on from there', async (t) => {
  const fleet = `${chat({ min: 1, recovery: '2m' })}${never}`;
  const greenroom = await withGreenroom(t, config([fleet]));
  const { room, server, members } = await guild(t, greenroom);
  await until('the agent has told of it', async () => (await greenroom.get(`/v1/rooms/${room}`)).seats.filter(({ state }) => state === 'connected').length === NAMES.length);
  const before = members.map(({ socket }) => socket.id);
  members[0].say();
  await until('everybody has heard it', () => members.every(({ lines }) => lines.length === 1));
  await kill(greenroom, server);
  await until('everybody is back', () => members.every(({ words, socket }) => words.length === 2 && socket.connected), 40_000);
  for (const [i, member] of members.entries()) {
    assert.deepEqual(member.words[1], { recovered: false, reason: 'rewound' });
    assert.notEqual(member.socket.id, before[i], 'a new session');
    await until('the full state', () => member.histories.length === 2);
    assert.deepEqual(member.histories[1], [], 'the state of the checkpoint');
  }
  members[1].say();
  await until('it goes on', () => members.every(({ lines }) => lines.at(-1) === 'bob 1'));
  assert.equal((await greenroom.get(`/v1/rooms/${room}`)).phase, 'live');
});
