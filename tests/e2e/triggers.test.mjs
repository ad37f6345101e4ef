// A number crosses a threshold and something is done, once: a program run, an address posted to (S2-34).
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

import { arena, config } from './configs.mjs';
import { BIN, pause, test, until, withGreenroom } from './harness.mjs';

/** Appends what it was told to a file, one line for each run. `then` is more of the script. */
const script = (name, file, metric, rules, then = '') => `
[triggers.${name}]
metric = "${metric}"
${rules}
exec = ["/bin/sh", "-c", 'echo "$GREENROOM_FIRE $GREENROOM_VALUE" >> "${file}"; echo "looked at $1"; ${then}', "sh", "${name}"]
`;

async function folder(t) {
  const made = await mkdtemp(path.join(os.tmpdir(), 'greenroom-triggers-'));
  t.after(() => rm(made, { recursive: true, force: true }));
  return made;
}

const lines = async (file) => (await readFile(file, 'utf8').catch(() => '')).split('\n').filter(Boolean);

async function tell(greenroom, name, body) {
  const answer = await fetch(`${greenroom.url}/v1/metrics/${name}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

const log = (greenroom) => readFile(path.join(greenroom.folder, '.greenroom/logs/control.log'), 'utf8');

const status = async (greenroom, name) =>
  (await greenroom.get('/v1/triggers')).triggers.find((trigger) => trigger.name === name);

test('a number that a user tells runs a program once for each crossing, also over kill -9 of the control plane', async (t) => {
  const file = path.join(await folder(t), 'runs');
  const hung = path.join(path.dirname(file), 'hung');
  const parts = [
    arena({ min: 1, max: 1 }),
    script('grow', file, 'custom.queue', 'above = 100\nrearm = 50'),
    script('hang', hung, 'custom.hang', 'above = 0', 'sleep 600'),
  ];
  const greenroom = await withGreenroom(t, config(parts));
  assert.equal((await status(greenroom, 'grow')).state, 'no_value');

  const taken = await tell(greenroom, 'queue', { value: 120.5 });
  assert.deepEqual([taken.status, taken.body.metric, taken.body.triggers], [200, 'custom.queue', ['grow']]);
  const done = await until('its program has ended', async () => {
    const now = await status(greenroom, 'grow');
    return now.outcome && now;
  });
  assert.deepEqual([done.state, done.fires, done.outcome.result, done.outcome.detail], ['firing', 1, 'done', 'exit code 0']);
  assert.deepEqual(await lines(file), ['grow.1 120.5']);
  await until('what it said is in the log', async () => /looked at grow/.test(await log(greenroom)));

  // One more runs a program that does not end: nobody will know how that went.
  await tell(greenroom, 'hang', { value: 1 });
  await until('the other one runs', async () => (await lines(hung)).length === 1);
  assert.equal((await status(greenroom, 'hang')).running, true);

  const { entries: before } = await greenroom.get('/v1/audit');
  process.kill(await greenroom.controlPid(), 'SIGKILL');
  await until('the control plane is back', async () => (await status(greenroom, 'grow'))?.state === 'no_value', 30_000);
  for (let round = 0; round < 4; round += 1) {
    await tell(greenroom, 'queue', { value: 130 });
    await tell(greenroom, 'hang', { value: 1 });
    await pause(600);
  }
  const after = await status(greenroom, 'grow');
  assert.deepEqual([after.state, after.fires], ['firing', 1], 'it was looked at and does not fire again');
  assert.deepEqual(await lines(file), ['grow.1 120.5']);
  const unknown = await status(greenroom, 'hang');
  assert.deepEqual([unknown.state, unknown.outcome.result, unknown.running], ['firing', 'unknown', false]);
  assert.deepEqual(await lines(hung), ['hang.1 1'], 'what nobody knows of is not done again');

  await tell(greenroom, 'queue', { value: 50 });
  await until('it is armed again', async () => (await status(greenroom, 'grow')).state === 'armed');
  await tell(greenroom, 'queue', { value: 101 });
  await until('it runs again', async () => (await lines(file)).length === 2);
  assert.deepEqual(await lines(file), ['grow.1 120.5', 'grow.2 101']);
  await until('its end is known', async () => !(await status(greenroom, 'grow')).running);

  const { entries } = await greenroom.get('/v1/audit?limit=1000');
  const trail = entries.filter(({ subject }) => subject === 'grow').map(({ action, who, reason }) => [action, who, reason]);
  assert.deepEqual(trail.reverse(), [
    ['trigger_fired', 'trigger', 'custom.queue is 120.5, above 100'],
    ['trigger_done', 'trigger', 'grow.1: done: exit code 0'],
    ['trigger_fired', 'trigger', 'custom.queue is 101, above 100'],
    ['trigger_done', 'trigger', 'grow.2: done: exit code 0'],
  ]);
  assert.ok(before.some(({ action, subject }) => action === 'trigger_fired' && subject === 'hang'));
  const failed = entries.filter(({ action }) => action === 'trigger_failed');
  assert.equal(failed.length, 1);
  assert.match(failed[0].reason, /^hang\.1: unknown: the control plane ended/);

  const table = spawnSync(BIN, ['get', 'triggers', '--server', greenroom.url], { encoding: 'utf8' });
  assert.equal(table.status, 0, table.stderr);
  assert.match(table.stdout, /^NAME +METRIC +VALUE +FIRES +STATE/);
  assert.match(table.stdout, /^grow +custom\.queue +101 +above 100 +firing +2 +\d+s +done: exit code 0$/m);
});

test('what is counted of a fleet posts to an address, again under the same key until it is taken', async (t) => {
  const posts = [];
  const sink = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      posts.push({ key: request.headers['idempotency-key'], path: request.url, body: JSON.parse(body) });
      response.writeHead(posts.length === 1 ? 503 : 204).end();
    });
  });
  await new Promise((ready) => sink.listen(0, '127.0.0.1', ready));
  t.after(() => sink.close());
  t.after(() => sink.closeAllConnections());
  const triggers = `
[triggers.busy]
metric = "fleet.arena.rooms"
above = 0
post = "env:HOOK_URL"
`;
  const env = { HOOK_URL: `http://127.0.0.1:${sink.address().port}/busy?key=hunter2` };
  const greenroom = await withGreenroom(t, config([arena({ min: 1, max: 1 }), triggers]), { env });
  await until('it is armed', async () => (await status(greenroom, 'busy')).state === 'armed');
  assert.deepEqual(posts, []);
  await greenroom.allocate('arena', { players: ['ann'] });
  await until('it is told and taken', async () => (await status(greenroom, 'busy')).outcome);
  const { outcome, fires } = await status(greenroom, 'busy');
  assert.deepEqual([outcome.result, outcome.detail, fires], ['done', 'answered 204', 1]);
  assert.deepEqual(posts.map(({ key, path: asked }) => [key, asked]), [['busy.1', '/busy?key=hunter2'], ['busy.1', '/busy?key=hunter2']]);
  const { at_ms: at, ...body } = posts[1].body;
  assert.deepEqual(body, {
    text: 'trigger busy fired: fleet.arena.rooms is 1, above 0',
    trigger: 'busy',
    fire: 'busy.1',
    metric: 'fleet.arena.rooms',
    value: 1,
    threshold: 'above 0',
  });
  assert.ok(Math.abs(at - Date.now()) < 120_000);
  assert.deepEqual(posts[0].body, posts[1].body);
  assert.match(await log(greenroom), /trigger busy fired: fleet\.arena\.rooms is 1/);
  assert.ok(!(await log(greenroom)).includes('hunter2'), 'the address is in no log');
});

test('numbers that cannot be meant are refused, and faults of the file are told with their place', async (t) => {
  const where = await folder(t);
  const greenroom = await withGreenroom(t, config([arena({ min: 1, max: 1 }), script('grow', path.join(where, 'runs'), 'custom.queue', 'above = 100')]));
  const cases = [
    ['queue', '{"value": "many"}', 400, /not as expected/],
    ['queue', '{"value": 1e400}', 400, /not as expected/],
    ['queue', '{"value": 1e16}', 400, /no number between/],
    ['queue', '{"value": 1, "valid_ms": 5}', 400, /valid_ms must be 1000 to 86400000/],
    ['queue', '{"valu": 1}', 400, /unknown field/],
    ['queues', '{"value": 1}', 404, /no trigger watches custom\.queues; there are: custom\.queue/],
  ];
  for (const [name, body, code, message] of cases) {
    const answer = await tell(greenroom, name, body);
    assert.equal(answer.status, code, body);
    assert.match(answer.body.error.message, message);
  }
  assert.equal((await status(greenroom, 'grow')).state, 'no_value');

  const file = path.join(where, 'bad.toml');
  await writeFile(file, '[triggers.grow]\nmetric = "fleet.arena.player"\nabove = 100\nexec = ["./grow.sh"]\n');
  const check = spawnSync(BIN, ['config', 'check', file], { encoding: 'utf8' });
  assert.equal(check.status, 64);
  assert.match(check.stderr, /bad\.toml:2:10: metric is "fleet\.arena\.player"; did you mean `players`\?/);
});
