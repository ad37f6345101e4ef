// What people outside are told: real control planes on one Redis, a real agent, and a receiver that keeps what it got.
import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import http from 'node:http';

import { pause, test, until } from './harness.mjs';
import { Replicas } from './replicas.mjs';

/** Lines of messages without their time. */
const linesOf = (texts) => texts.flatMap((text) => text.split('\n')).map((line) => line.replace(/^\d\d:\d\d:\d\dZ /, ''));

/** A chat: keeps every message, refuses none. */
class Chat {
  static async start(t) {
    const self = new Chat();
    self.server = http.createServer((request, response) => self.#take(request, response));
    await new Promise((done) => self.server.listen(0, '127.0.0.1', done));
    self.url = `http://127.0.0.1:${self.server.address().port}/services/T0/B0/hunter2`;
    t.after(() => self.server.close());
    t.after(() => self.server.closeAllConnections());
    return self;
  }

  messages = [];

  #take(request, response) {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      this.messages.push({ key: request.headers['idempotency-key'], path: request.url, body: JSON.parse(body) });
      response.writeHead(200).end('ok');
    });
  }

  get lines() {
    return linesOf(this.messages.map(({ body }) => body.text));
  }

  told(pattern) {
    return this.lines.filter((line) => pattern.test(line));
  }
}

/** Two replicas that tell the chat, and one agent. */
function start(t, chat) {
  class Telling extends Replicas {
    static async prepare(...args) {
      const self = await super.prepare(...args);
      self.env.SLACK_URL = chat.url;
      await appendFile(self.toml('control'), `
[[control.notify]]
name = "ops"
url = "env:SLACK_URL"
digest_every = "1m"
per_minute_max = 60
`);
      return self;
    }
  }
  return Telling.start(t, { replicas: ['a', 'b'], hosts: ['h1'] });
}

test('people are told what happens, and after a failover nothing twice', async (t) => {
  const chat = await Chat.start(t);
  const replicas = await start(t, chat);
  await until(() => `the start is told: ${JSON.stringify(chat.messages)}`, () =>
    chat.told(/^replica [ab] leads the control plane \(term \d+\)$/).length === 1
    && chat.told(/^host h1 has joined$/).length === 1
    && chat.told(/^fleet chat scaled from 0 to 4: /).length === 1);

  // An order of a person, and a drain: each told once, by whoever leads.
  const drained = await replicas.call('POST', '/v1/hosts/h1/drain', { reason: 'new disks <!channel>' });
  assert.equal(drained.status, 200);
  await until('the drain is told', () => chat.told(/^host h1 drained by anonymous: new disks &lt;!channel&gt;$/).length === 1);
  await replicas.call('POST', '/v1/hosts/h1/drain', { undo: true });
  const first = await replicas.leader();

  // The leader is frozen in the middle: the other one leads. When it thaws it tells nothing of what it still had to tell.
  const noisy = (async () => {
    for (let i = 0; i < 20; i += 1) {
      await replicas.call('POST', '/v1/hosts/h1/drain', i % 2 === 0 ? { reason: `round ${i}` } : { undo: true, reason: `round ${i}` }).catch(() => {});
      await pause(100);
    }
  })();
  await pause(700);
  replicas.freeze(first.replica);
  const second = await replicas.leader();
  assert.notEqual(second.replica.name, first.replica.name);
  await noisy;
  replicas.thaw(first.replica);
  const leads = new RegExp(`^replica ${second.replica.name} leads`);
  await until(() => `the failover is told; ${chat.lines.join('\n')}`, () => chat.told(leads).length === 1);

  // Then the second one is killed. The first leads again.
  replicas.kill(second.replica);
  const third = await replicas.leader();
  assert.equal(third.replica.name, first.replica.name);
  await until(() => `the second failover is told; ${chat.lines.join('\n')}`, () =>
    chat.told(new RegExp(`^replica ${first.replica.name} leads .*term ${third.term}`)).length === 1);

  // Everything of the audit trail was told, once: drains by their round.
  const { body: { entries } } = await replicas.call('GET', '/v1/audit?limit=1000');
  const rounds = entries.filter(({ action, reason }) => /drained$/.test(action) && /^round/.test(reason));
  assert.ok(rounds.length >= 10, `${rounds.length} drains were ordered`);
  await until(() => `every round is told; ${chat.lines.join('\n')}`, () =>
    rounds.every(({ reason }) => chat.told(new RegExp(`: ${reason}$`)).length >= 1));
  await until(() => `a digest is told; ${chat.lines.join('\n')}`, () => chat.told(/^digest: 2 fleets, 6 gameservers/).length >= 1, 90_000);
  const keys = new Map();
  for (const { key, body } of chat.messages) keys.set(key, [...(keys.get(key) ?? []), body.text]);
  // Who dies between a post and its note posts it again, under the same key: receivers know it by that.
  for (const [key, texts] of keys) assert.equal(new Set(texts).size, 1, `${key} is one message: ${texts}`);
  const once = linesOf([...keys.values()].map(([text]) => text));
  const lines = once.filter((line) => !line.startsWith('digest') && !line.startsWith('fleet chat: ') && !line.startsWith('fleet lobby: '));
  assert.deepEqual(lines.filter((line, at) => lines.indexOf(line) !== at), [], 'no line came twice');
  assert.equal(chat.told(/has joined$/).length, 1, 'the host is known to every leader');
  assert.ok(!replicas.said().includes('hunter2'), 'the address is in no log');
});
