// Servers that speak for themselves over the SDK: in bash, over UDP, to each other (S1-7, S1-8, S2-35).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import dgram from 'node:dgram';
import path from 'node:path';
import process from 'node:process';

import { config } from './configs.mjs';
import { BIN, isAlive, test, until, withGreenroom } from './harness.mjs';
import { blocksOf } from './page.mjs';
import { Webhook } from './webhook.mjs';

const PAGE = new URL('../../docs/sdk.md', import.meta.url);

const blocks = blocksOf(await readFile(PAGE, 'utf8'));
const file = (name) => blocks.find(({ mark }) => mark === `file=${name}`).text;

/** What a command prints in this Greenroom's folder, as a reader types it. */
async function typed(greenroom, command) {
  const env = { ...process.env, PATH: `${greenroom.folder}:${process.env.PATH}`, GREENROOM_SERVER_URL: greenroom.url };
  return new Promise((done) => {
    execFile('bash', ['-e', '-c', command], { cwd: greenroom.folder, env, timeout: 60_000 }, (error, stdout, stderr) =>
      done({ code: error ? error.code ?? error.signal : 0, stdout, stderr }));
  });
}

test('the walk-through with curl prints what its page says', async (t) => {
  // The page's fleet is ready only when its reader says so, which `dev` would wait for.
  const waits = file('greenroom.toml').replace('replicas_min = 1', 'replicas_min = 0');
  assert.notEqual(waits, file('greenroom.toml'));
  const greenroom = await withGreenroom(t, config([waits]), { ports: 10 });
  await writeFile(path.join(greenroom.folder, 'server.sh'), file('server.sh'));
  await writeFile(path.join(greenroom.folder, 'greenroom'), `#!/bin/sh\nexec '${BIN}' "$@"\n`);
  await chmod(path.join(greenroom.folder, 'greenroom'), 0o755);
  assert.equal((await typed(greenroom, 'greenroom scale echo=1 --for 10m')).code, 0);
  await until('the server has told its url', () => readFile(path.join(greenroom.folder, 'echo.url'), 'utf8'));
  await until('and is known', async () => (await greenroom.get('/v1/gameservers')).gameservers[0].message.startsWith('its probe'));

  let said = null;
  let compared = 0;
  for (const { language, mark, text, line } of blocks) {
    if (mark) continue;
    if (language === 'sh') {
      const { code, stdout, stderr } = await typed(greenroom, text);
      assert.equal(code, 0, `line ${line}: it ended with ${code} and said: ${stdout}${stderr}`);
      said = stdout;
    } else if (language === 'text') {
      assert.equal(said, text, `line ${line}`);
      compared += 1;
    }
  }
  assert.equal(compared, blocks.filter(({ language }) => language === 'text').length);
  assert.ok(compared >= 8, `${compared} outputs were compared`);
});

/** A player of the echo over UDP. Packets may be lost, so a question is asked again until it is answered. */
class EchoPlayer {
  static async join(t, { endpoint, token }) {
    const self = new EchoPlayer();
    const [host, port] = endpoint.split(':');
    self.socket = dgram.createSocket('udp4');
    t.after(() => self.socket.close());
    self.heard = [];
    self.socket.on('error', () => {}); // refused by a port that is closed: asked again, or nobody asks any more
    self.socket.on('message', (message) => self.heard.push(String(message)));
    self.socket.connect(Number(port), host);
    await once(self.socket, 'connect');
    await self.ask(`join ${token}`, /^joined \d+$/);
    return self;
  }

  async ask(text, answer) {
    await until(() => `${answer} is heard; heard: ${this.heard.join(' | ')}`, async () => {
      this.socket.send(text);
      return until('', () => this.heard.some((line) => answer.test(line)), 300).catch(() => false);
    });
  }
}

test('a game over udp is ready by its own word, allocated, played, and scaled in only when idle', async (t) => {
  const webhook = await Webhook.start(t);
  const shown = blocks.find(({ text }) => text.includes('udp-echo')).text.replace('rooms_per_server = 10', 'rooms_per_server = 1');
  const quick = '[fleets.udp.autoscale]\ncooldown_out = "0s"\ncooldown_in = "3s"\nsettle_in = "1s"\n';
  const fleets = [`${shown}replicas_min = 0\nreplicas_max = 3\n`, quick];
  const greenroom = await withGreenroom(t, config(fleets, { webhook: webhook.url }), { ports: 10 });
  const fleet = () => greenroom.get('/v1/fleets/udp');

  const give = (players) => greenroom.allocate('udp', { players, timeout_ms: 30_000 });
  const [both, alone] = await Promise.all([give(['ann', 'bob']), give(['cid'])]);
  assert.notEqual(both.server, alone.server, 'one room on each server');
  const [ann, bob, cid] = await Promise.all(
    [[both, 0], [both, 1], [alone, 0]].map(([room, seat]) => EchoPlayer.join(t, { endpoint: room.endpoint, token: room.seats[seat].token })),
  );
  await ann.ask('hello', /^ann: hello$/);
  await bob.ask('hi', /^bob: hi$/);
  await until('both hear each other', () => ann.heard.includes('bob: hi') && bob.heard.includes('ann: hello'));
  assert.ok(!cid.heard.some((line) => line.startsWith('ann')), 'another room hears nothing of it');
  const playing = setInterval(() => cid.socket.send('still here'), 1_000);
  t.after(() => clearInterval(playing));

  const seats = async () => (await greenroom.get(`/v1/rooms/${both.room}`)).seats.filter(({ state }) => state === 'connected').length;
  await until('both are known as connected', async () => (await seats()) === 2);
  await ann.ask('leave', /^left$/);
  await bob.ask('leave', /^left$/);
  await until('the result is delivered', () => webhook.stored.size === 1);
  const [result] = webhook.stored.values();
  assert.deepEqual(Object.keys(result.result), ['echoes']);

  await until('the empty server is gone', async () => (await fleet()).replicas === 1, 60_000);
  const { gameservers } = await greenroom.get('/v1/gameservers?fleet=udp');
  const kept = gameservers.filter(({ state }) => state !== 'stopped');
  assert.deepEqual(kept.map(({ name }) => name), [alone.server], 'the one with a player stays');
  await cid.ask('anybody?', /^cid: anybody\?$/);

  // A frozen one is out of rotation within its own bound, and back when it goes on.
  const state = async () => (await greenroom.get(`/v1/gameservers/${alone.server}`)).state;
  assert.ok(isAlive(kept[0].pid));
  process.kill(kept[0].pid, 'SIGSTOP');
  await until('its silence is noticed', async () => (await state()) === 'unhealthy', 10_000);
  process.kill(kept[0].pid, 'SIGCONT');
  await until('it is heard again', async () => ['allocated', 'ready'].includes(await state()), 10_000);
});

test('a server watches another one join and leave, and is chosen by its own label', async (t) => {
  const server = new URL('./sdk-server.mjs', import.meta.url).pathname;
  const fleet = `
[fleets.pair]
kind = "mesh"
command = ["${process.execPath}", "${server}"]
probe = "sdk:5s"
replicas_min = 1
replicas_max = 2
[fleets.pair.autoscale]
cooldown_out = "0s"
cooldown_in = "1s"
settle_in = "1s"
`;
  const greenroom = await withGreenroom(t, config([fleet]), { ports: 10 });
  const running = async () => (await greenroom.get('/v1/gameservers')).gameservers.filter(({ state }) => state === 'ready');
  const said = async (name) => (await greenroom.get(`/v1/gameservers/${name}/logs`)).text.split('\n');
  const endpoint = (role) => greenroom.get(`/v1/fleets/pair/endpoint?labels=role:${role}`);

  const [a] = await running();
  await until('a knows itself', async () => (await said(a.name)).includes('peer known'));
  assert.equal((await greenroom.post('/v1/fleets/pair/scale', { replicas: 2 })).status, 200);
  const b = await until('b is ready', async () => (await running()).find(({ name }) => name !== a.name));
  assert.deepEqual([a.labels, b.labels], [{ role: 'first' }, { role: 'later' }]);
  // It is looked once a second: whoever is ready by then joins as such.
  const isReady = new RegExp(`^peer (joined|changed) ${b.name} ready later$`);
  const joined = await until('a has seen b join and become ready', async () => {
    const lines = (await said(a.name)).filter((line) => line.includes(b.name));
    return lines.some((line) => isReady.test(line)) && lines;
  });
  assert.match(joined[0], new RegExp(`^peer joined ${b.name} `));
  assert.equal((await endpoint('later')).server, b.name);
  assert.equal((await endpoint('first')).server, a.name);

  // Nobody leaves because the control plane was away.
  process.kill(await greenroom.controlPid(), 'SIGKILL');
  await until('control is back', async () => (await running()).length === 2, 60_000);
  assert.ok(!(await said(a.name)).some((line) => line.startsWith('peer left')), 'nobody has left');

  await greenroom.post('/v1/fleets/pair/scale', { replicas: 0 });
  const left = async () => (await said(a.name)).includes(`peer left ${b.name}`) || (await said(b.name)).includes(`peer left ${a.name}`);
  await until('the one that stays has seen the other leave', left, 60_000);
});
