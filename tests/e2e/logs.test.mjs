// What a server says, by server, fleet and room; and a line for each connection, with whether it went on (S3-11).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { io } from 'socket.io-client';
import { chat, config } from './configs.mjs';
import { BIN, test, until, withGreenroom } from './harness.mjs';

/** A command whose output is kept. */
function follow(t, greenroom, ...args) {
  const child = spawn(BIN, ['--server', greenroom.url, 'logs', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const run = { text: '', code: undefined };
  child.stdout.on('data', (chunk) => (run.text += chunk));
  child.stderr.on('data', (chunk) => (run.text += chunk));
  child.on('exit', (code) => (run.code = code));
  t.after(() => child.kill('SIGKILL'));
  return run;
}

test('a room is followed from server to server of its fleet, line by line, and no secret is told', async (t) => {
  const fleet = chat({ recovery: '2m' }).replace('"greenroom", "example"', '"greenroom", "--log-filter", "info,greenroom_node::connections=debug", "example"');
  const greenroom = await withGreenroom(t, config([fleet], {}));
  const { room, server, seats, url } = await greenroom.allocate('chat', { key: 'guild:42', players: ['ann'] });
  const ofRoom = follow(t, greenroom, '-f', `room/${room}`);
  const ofFleet = follow(t, greenroom, '-f', 'fleet/chat');
  const [{ token }] = seats;
  const ann = io(url, { auth: { token }, reconnectionDelay: 50, transports: ['websocket'] });
  t.after(() => ann.disconnect());
  let connects = 0;
  ann.on('connect', () => (connects += 1));
  await until('ann is in', () => connects === 1);
  const sid = ann.id;
  ann.io.engine.close();
  await until('ann is back', () => connects === 2);
  assert.ok(ann.recovered && ann.id === sid);
  ann.disconnect();
  const lines = (text) =>
    text.split('\n').filter((line) => line.includes('greenroom_node::connections')).map((line) => line.replace(/\d{4}-\S+Z +/, ''));
  const of = `node=${server}.0 socket=${sid} namespace="/" room=${room}`;
  const expected = [
    `${server} | DEBUG greenroom_node::connections: connected ${of} recovered=false`,
    `${server} | DEBUG greenroom_node::connections: disconnected ${of} reason="transport close"`,
    `${server} | DEBUG greenroom_node::connections: connected ${of} recovered=true`,
    `${server} | DEBUG greenroom_node::connections: disconnected ${of} reason="client namespace disconnect"`,
  ];
  for (const [run, name] of [[ofRoom, 'room'], [ofFleet, 'fleet']]) {
    await until(() => `the four lines of the ${name}; it told\n${run.text}`, () => lines(run.text).length >= 4);
    assert.deepEqual(lines(run.text), expected, name);
    assert.ok(!run.text.includes(token) && !run.text.includes(ann._pid ?? token));
  }
  const other = (await greenroom.get('/v1/gameservers')).gameservers.find(({ name }) => name !== server).name;
  await until('the fleet has two servers', () => ofFleet.text.includes(`${other} | `));
  assert.ok(!ofRoom.text.includes(`${other} | `), 'the room has one');

  // The room is over, and so is the command that followed it.
  await greenroom.post(`/v1/rooms/${room}/finish`, {});
  await until(() => `the command ends with the room; it told\n${ofRoom.text}`, () => ofRoom.code !== undefined, 20_000);
  assert.equal(ofRoom.code, 0);
  assert.equal(ofFleet.code, undefined, 'the fleet goes on');
  const absent = follow(t, greenroom, 'fleet/nobody');
  await until('an answer', () => absent.code !== undefined);
  assert.match(absent.text, /nobody/);
  assert.notEqual(absent.code, 0);
});
