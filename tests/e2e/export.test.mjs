// Backup, and the way from one machine to a Redis and back (S1-20): what a control plane has promised goes through a file into
// another store, and neither players nor servers nor the back end notice.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

import { chat, config, lobby } from './configs.mjs';
import { BIN, clear, freePorts, pause, test, until } from './harness.mjs';
import { Redis } from './redis.mjs';
import { run } from './replicas.mjs';
import { Webhook } from './webhook.mjs';

/** One host whose agent runs on, and a control plane at one address, on whichever store. */
class Machine {
  static async start(t, webhook) {
    const self = new Machine();
    self.folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-e2e-'));
    self.env = { ...process.env, GREENROOM_TEST_FOLDER: self.folder, NO_COLOR: '1' };
    t.after(() => self.stop());
    const first = await freePorts(11);
    self.url = `http://127.0.0.1:${first}`;
    const text = config([lobby(1), chat({ min: 2 })], { webhook, reservation: '1h' })(`${first + 1}-${first + 10}`);
    await writeFile(path.join(self.folder, 'greenroom.toml'), text.replaceAll('"greenroom"', JSON.stringify(BIN)));
    self.agent = self.begin('--server', self.url, 'agent', '--data-dir', 'host');
    return self;
  }

  begin(...args) {
    return run(BIN, args, { cwd: this.folder, env: this.env });
  }

  /** `where`: `--data-dir FOLDER` or `--store URL`. */
  async up(...where) {
    this.control = this.begin('control', '--listen', new URL(this.url).host, ...where);
    await until(() => `its agent is with it; control said\n${this.control.output}`, async () => {
      const { hosts } = await this.get('/v1/hosts');
      const { fleets } = await this.get('/v1/fleets');
      return hosts[0]?.connected && fleets.every((fleet) => fleet.ready >= fleet.replicas_min);
    }, 60_000);
  }

  async down() {
    this.control.child.kill('SIGTERM');
    await this.control.ended;
  }

  /** One command, by its words: what it printed, or what it said when it failed. */
  async greenroom(...args) {
    const options = { cwd: this.folder, env: this.env, timeout: 30_000 };
    return promisify(execFile)(BIN, ['--server', this.url, ...args], options)
      .then(({ stdout }) => ({ ok: true, said: stdout }), ({ stderr, code }) => ({ ok: false, said: stderr, code }));
  }

  async refused(words, ...args) {
    const { ok, said } = await this.greenroom(...args);
    assert.ok(!ok, `${args.join(' ')} is refused`);
    assert.match(said, words);
  }

  async done(...args) {
    const { ok, said } = await this.greenroom(...args);
    assert.ok(ok, `${args.join(' ')}: ${said}`);
    return said;
  }

  async get(at) {
    const answer = await fetch(this.url + at, { signal: AbortSignal.timeout(12_000) });
    assert.equal(answer.status, 200, at);
    return answer.json();
  }

  async post(at, body) {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(this.url + at, { method: 'POST', headers, body: JSON.stringify(body), signal: AbortSignal.timeout(12_000) });
    const told = await answer.json();
    assert.equal(answer.status, 200, `${at}: ${JSON.stringify(told)}`);
    return told;
  }

  allocate(body) {
    return this.post('/v1/fleets/chat/rooms', body);
  }

  /** What must be the same wherever it is kept. */
  async promises() {
    const { rooms } = await this.get('/v1/rooms?limit=1000');
    const { gameservers } = await this.get('/v1/gameservers');
    const { entries } = await this.get('/v1/audit?limit=1000');
    const { keys } = await this.get('/v1/keys');
    return {
      keys,
      rooms: rooms.filter(({ phase }) => phase !== 'ended').map(({ room, key, server, epoch }) => ({ room, key, server, epoch }))
        .sort((a, b) => a.room.localeCompare(b.room)),
      servers: gameservers.map(({ name, pid, restarts }) => ({ name, pid, restarts })).sort((a, b) => a.name.localeCompare(b.name)),
      trail: entries.filter(({ action }) => !action.startsWith('state_')),
    };
  }

  async stop() {
    for (const part of [this.control, this.agent]) part?.child.kill('SIGKILL');
    await pause(50);
    await clear(this.folder);
  }
}

test('what one machine has promised is kept by a Redis and back again, and nobody notices', async (t) => {
  const webhook = await Webhook.start(t, { failures: Infinity });
  const redis = await Redis.start({ keeps: 'everysec' });
  t.after(() => redis.stop());
  const machine = await Machine.start(t, webhook.url);
  await machine.up('--data-dir', 'one');

  const guilds = [];
  for (let i = 0; i < 20; i += 1) guilds.push(await machine.allocate({ key: `guild:${i}`, players: [`p${i}`] }));
  const order = { idempotency_key: 'order-1', players: ['ann', 'bob'] };
  const ordered = await machine.allocate(order);
  const over = await machine.allocate({ key: 'over', players: ['zoe'] });
  await machine.post(`/v1/rooms/${over.room}/finish`, { epoch: over.epoch, result: { won: 'zoe' } });
  await until('the webhook refuses the result', () => webhook.requests > 0);
  const before = await machine.promises();
  assert.equal(before.rooms.length, 21);

  // While it runs it is asked itself; its file is held by it. Nobody gets the keys without a token.
  await machine.refused(/another process holds the store/, 'export', 'held.jsonl', '--data-dir', 'one');
  await machine.refused(/the signing keys are given to the bearer of a token only/, 'export', 'keys.jsonl');
  assert.match(await machine.done('export', 'online.jsonl', '--without-keys'), /records of term 1 are in online\.jsonl\n$/);
  assert.doesNotMatch(await readFile(path.join(machine.folder, 'online.jsonl'), 'utf8'), /"secret"/);
  assert.deepEqual(await machine.promises(), before, 'an export disturbs nothing');
  const { entries: [last] } = await machine.get('/v1/audit?limit=1');
  assert.deepEqual([last.action, last.reason], ['state_exported', 'without the signing keys']);

  await machine.down();
  assert.match(await machine.done('export', 'backup.jsonl', '--data-dir', 'one'), /it holds the signing keys: keep it secret/);
  const backup = path.join(machine.folder, 'backup.jsonl');
  assert.equal((await stat(backup)).mode & 0o777, 0o600, 'only its owner reads it');
  await machine.refused(/File exists/, 'export', 'backup.jsonl', '--data-dir', 'one');
  await machine.refused(/there is no store in elsewhere/, 'export', 'x.jsonl', '--data-dir', 'elsewhere');

  const whole = await readFile(backup, 'utf8');
  await writeFile(path.join(machine.folder, 'cut.jsonl'), whole.slice(0, -40));
  await machine.refused(/the export is cut/, 'import', 'cut.jsonl', '--store', redis.url);
  await writeFile(path.join(machine.folder, 'changed.jsonl'), whole.replace('guild:7', 'guild:8'));
  await machine.refused(/the export is damaged/, 'import', 'changed.jsonl', '--store', redis.url);
  assert.match(await machine.done('import', 'backup.jsonl', '--store', redis.url), /records are stored; whoever leads next has a term above 2\n$/);
  await machine.refused(/the store is not empty/, 'import', 'backup.jsonl', '--store', redis.url);

  webhook.failures = 0;
  await machine.up('--store', redis.url, '--replica', 'a');
  await until('the result is delivered', () => webhook.stored.size === 1, 60_000);
  const same = async (what) => {
    assert.deepEqual(await machine.promises(), before, `${what}: the same keys, rooms and servers, nothing started or stopped`);
    assert.deepEqual((await machine.allocate(order)).seats, ordered.seats, `${what}: the same answer, tokens included`);
    for (const [i, { room, seats }] of guilds.entries()) {
      const again = await machine.allocate({ key: `guild:${i}`, players: [`p${i}`] });
      assert.deepEqual([again.room, again.created, again.seats[0].seat], [room, false, seats[0].seat], what);
    }
  };
  await same('in the Redis');
  const imports = (await machine.get('/v1/audit?limit=1000')).entries.filter(({ action }) => action === 'state_imported');
  assert.match(imports.map(({ who, reason }) => `${who}: ${reason}`).join(), /^import: \d+ records that were exported under term 1$/);
  await machine.refused(/replica a at .* leads on this store/, 'import', 'backup.jsonl', '--store', redis.url, '--replace');
  await same('after a refused import');

  await machine.down();
  await machine.done('export', 'back.jsonl', '--store', redis.url);
  await machine.done('import', 'back.jsonl', '--data-dir', 'two');
  await machine.up('--data-dir', 'two');
  await same('on one machine again');
  await until('no result waits', async () => (await machine.get('/v1/overview')).totals.results_pending === 0);
  assert.equal(webhook.stored.size, 1, 'the result was taken once');
  assert.deepEqual([...webhook.stored.values()][0].result, { won: 'zoe' });
});
