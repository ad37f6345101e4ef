// Bad input on every public surface: a clear refusal, the process lives, nobody else is disturbed.
import assert from 'node:assert/strict';
import net from 'node:net';

import { chat, config, lobby, whiteboard } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';
import { connect, next } from './players.mjs';

test('the HTTP API refuses bad requests with a code and a reason, and changes nothing', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), chat({ min: 1, seats: 4 })]));
  const before = (await greenroom.overview()).totals;
  const rooms = '/v1/fleets/chat/rooms';
  const cases = [
    ['POST', rooms, '{', 400, 'bad_request'],
    ['POST', rooms, '[]', 400, 'bad_request'],
    ['POST', rooms, '{"players":[]}', 400, 'bad_request'],
    ['POST', rooms, '{"players":["a","a"]}', 400, 'bad_request'],
    ['POST', rooms, '{"players":["a"],"kye":"x"}', 400, 'bad_request'],
    ['POST', rooms, '{"players":["with space"]}', 400, 'bad_request'],
    ['POST', rooms, `{"players":["${'x'.repeat(200)}"]}`, 400, 'bad_request'],
    ['POST', rooms, '{"players":["a","b","c","d","e"]}', 400, 'bad_request'],
    ['POST', rooms, '{"players":["a"],"timeout_ms":-1}', 400, 'bad_request'],
    ['POST', rooms, `{"players":["a"],"key":"${'k'.repeat(100_000)}"}`, 413, 'too_large'],
    ['POST', '/v1/fleets/nonesuch/rooms', '{"players":["a"]}', 404, 'fleet_not_found'],
    ['POST', '/v1/fleets/lobby/rooms', '{"players":["a"]}', 409, 'wrong_kind'],
    ['GET', '/v1/fleets/chat/endpoint', null, 409, 'wrong_kind'],
    ['GET', '/v1/fleets/UPPER/endpoint', null, 400, 'bad_request'],
    ['GET', '/v1/rooms/nonesuch', null, 404, 'room_not_found'],
    ['GET', '/v1/rooms?limit=abc', null, 400, 'bad_request'],
    ['GET', '/v1/gameservers/nonesuch', null, 404, 'gameserver_not_found'],
    ['DELETE', '/v1/tickets/nonesuch', null, 404, 'ticket_not_found'],
    ['POST', '/v1/fleets/chat/tickets', '{"owner":"x","tickets":[{"id":"","players":["a"]}]}', 400, 'bad_request'],
    ['DELETE', '/v1/fleets', null, 405, 'method_not_allowed'],
    ['GET', '/v2/fleets', null, 404, 'not_found'],
  ];
  for (const [method, where, body, status, code] of cases) {
    const answer = await fetch(greenroom.url + where, { method, body, headers: { 'content-type': 'application/json' } });
    const text = await answer.text();
    assert.equal(answer.status, status, `${method} ${where} ${String(body).slice(0, 60)}: ${text}`);
    const { error } = JSON.parse(text);
    assert.equal(error.code, code, text);
    assert.ok(error.message.length > 10, text);
  }
  const foreign = await fetch(`${greenroom.url}${rooms}`, {
    method: 'POST', body: '{"players":["a"]}', headers: { 'content-type': 'application/json', origin: 'http://evil.example' },
  });
  assert.ok(foreign.status >= 400, 'a page of another origin may not write');
  const { totals } = await greenroom.overview();
  assert.deepEqual({ ...totals, connections: 0 }, { ...before, connections: 0 });
});

test('a gameserver survives bad packets, and its players notice nothing', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(1)]));
  const { url, endpoint, server } = await greenroom.get('/v1/fleets/whiteboard/endpoint');
  const [host, port] = endpoint.split(':');
  const watcher = await connect(url, { transports: ['websocket'] });
  const painter = await connect(url, { transports: ['websocket'] });
  t.after(() => (watcher.disconnect(), painter.disconnect()));
  const drops = [];
  watcher.on('disconnect', (reason) => drops.push(reason));

  const raw = (bytes) =>
    new Promise((done) => {
      const socket = net.connect(Number(port), host, () => socket.end(bytes));
      let answer = '';
      socket.on('data', (chunk) => (answer += chunk));
      socket.on('error', () => done(answer));
      socket.on('close', () => done(answer));
    });
  for (const bytes of ['\0\0\0', 'GET', 'GET / HTTP/9.9\r\n\r\n', `GET / HTTP/1.1\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`]) {
    await raw(bytes);
  }
  const open = async () => JSON.parse((await (await fetch(`${url}/socket.io/?EIO=4&transport=polling`)).text()).slice(1)).sid;
  const packets = [
    '4', '40{', '42', '42[]', '42[1', '42["disconnect"]', '451-["x"]', '499', '4'.repeat(100), 'zzz', '\x1e\x1e', '42/nonesuch,["x"]',
    `42${'['.repeat(100_000)}`, '42["drawing",{"x0":"NaN"}]', '45999999999999-["x",{"_placeholder":true,"num":9}]', 'b!!!',
  ];
  for (const packet of packets) {
    const sid = await open();
    const where = `${url}/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    await fetch(where, { method: 'POST', body: '40' });
    const answer = await fetch(where, { method: 'POST', body: packet });
    assert.ok(answer.status === 200 || answer.status === 400, `${packet.slice(0, 40)}: ${answer.status}`);
    await answer.text();
  }
  for (const [query, status, code] of [
    ['EIO=3&transport=polling', 400, 5],
    ['EIO=4&transport=pigeon', 400, 0],
    ['EIO=4&transport=polling&sid=nonesuch', 400, 1],
  ]) {
    const answer = await fetch(`${url}/socket.io/?${query}`);
    assert.equal(answer.status, status);
    assert.equal((await answer.json()).code, code);
  }
  const seen = next(watcher, 'drawing');
  painter.emit('drawing', { x0: 0, y0: 0, x1: 1, y1: 1 });
  await seen;
  assert.deepEqual(drops, []);
  const status = await until('the server is still the same process', () => greenroom.get(`/v1/gameservers/${server}`));
  assert.equal(status.restarts, 0);
});
