// Mutual TLS between three replicas and an agent, all real processes on a real Redis (S1-2, S0-32): who is not inside is told why
// at both ends, certificates change under open streams, and the leader's death is outlived as without TLS.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import https from 'node:https';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

import { Authority, shown } from './authority.mjs';
import { BIN, test, until } from './harness.mjs';
import { Replicas, failover, run } from './replicas.mjs';

const TOKEN = 'operator-0123456789abcdef';

const section = (name, authority, file) => `
[${name}.tls]
cert = "${authority.path(`${file}.pem`)}"
key = "${authority.path(`${file}.key`)}"
ca = "${authority.path('ca.pem')}"
`;

/** The replicas of the other tests, under mutual TLS and with a token for operators alone. */
class Secure extends Replicas {
  static async prepare(t, replicas, hosts) {
    const authority = await Authority.make(t, 'ours');
    const self = await super.prepare(t, replicas, hosts);
    self.authority = authority;
    await self.sign(1001);
    self.replicas = self.replicas.map((replica) => ({ ...replica, url: replica.url.replace('http:', 'https:') }));
    self.agent = new https.Agent({ ca: authority.ca });
    self.env.E2E_OPERATOR = TOKEN;
    const token = '\n[[control.tokens]]\nname = "ops"\nrole = "admin"\nfrom = "env:E2E_OPERATOR"\n';
    const agents = 'agents = ["greenroom-agent", "{host}.agents.test"]\n';
    self.more = section('control', authority, 'control') + agents + token + section('agent', authority, 'agent');
    await writeFile(self.toml('control'), (await readFile(self.toml('control'), 'utf8')) + self.more);
    return self;
  }

  async sign(serial) {
    await this.authority.sign(serial, 'control', 'IP:127.0.0.1,DNS:localhost,DNS:greenroom-control');
    await this.authority.sign(serial + 1, 'agent', 'DNS:greenroom-agent');
  }

  ask({ url }, method, at, body, ms = 12_000) {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    return new Promise((resolve, reject) => {
      const options = { method, headers, agent: this.agent, signal: AbortSignal.timeout(ms) };
      const request = https.request(url + at, options, async (answer) => {
        let text = '';
        try {
          for await (const chunk of answer) text += chunk;
          resolve({ status: answer.statusCode, body: text.startsWith('{') ? JSON.parse(text) : {} });
        } catch (error) {
          reject(error);
        }
      });
      request.on('error', reject);
      request.end(body && JSON.stringify(body));
    });
  }

  /** One more agent, whose file says `more`; it says something that matches `words`, and what `also` looks for comes true meanwhile. */
  async turnedAway(name, more, words, also = () => true) {
    const own = (await readFile(this.toml('h1'), 'utf8')).replace(this.more, '').replace('name = "h1"', `name = "${name}"`);
    await writeFile(this.toml(name), own + more);
    const args = ['--server', this.replicas[0].url, 'agent', '--config', this.toml(name)];
    const agent = run(BIN, [...args, '--data-dir', path.join(this.folder, name)], { cwd: this.folder, env: this.env });
    try {
      await until(() => `${name} is told why: ${words}; it said\n${agent.output}`, () => words.test(agent.output) && also());
    } finally {
      agent.child.kill('SIGKILL');
      await agent.ended;
    }
  }

  /** What all replicas said. */
  get outputs() {
    return this.replicas.map(({ run }) => run.output).join('\n');
  }
}

const greenroom = async (...args) => {
  const env = { ...process.env, GREENROOM_TOKEN: TOKEN };
  try {
    return { code: 0, text: (await promisify(execFile)(BIN, args, { env })).stdout };
  } catch (error) {
    return { code: error.code, text: error.stderr };
  }
};

test('under mutual TLS replicas and agents know each other, change certificates and outlive their leader', async (t) => {
  const replicas = await Secure.start(t, { hosts: ['h1'] });
  const { authority } = replicas;
  const { replica: leader } = await replicas.leader();
  const follower = replicas.replicas.find((replica) => replica !== leader);

  // The agent came with a certificate and no token; a follower passes calls on with its own.
  const room = await replicas.ask(follower, 'POST', '/v1/fleets/chat/rooms', { key: 'guild:1', players: ['ann'] });
  assert.equal(room.status, 200, JSON.stringify(room.body));
  const hosts = await greenroom('--server', follower.url, '--ca', authority.path('ca.pem'), 'get', 'hosts');
  assert.equal(hosts.code, 0, hosts.text);
  assert.match(hosts.text, /h1/);
  const blind = await greenroom('--server', follower.url, 'get', 'hosts');
  assert.equal(blind.code, 69);
  assert.match(blind.text, /over TLS[\s\S]*--ca FILE/);

  const foreign = await Authority.make(t, 'theirs');
  await foreign.sign(7, 'agent', 'DNS:greenroom-agent');
  const trusting = section('agent', foreign, 'agent').replace(foreign.path('ca.pem'), authority.path('ca.pem'));
  // Control says so too: not of every try, for it tells such things seldom.
  await replicas.turnedAway('foreign', trusting, /refuses our certificate: no authority that it trusts has signed it/, () =>
    /signed by none of the authorities in ca/.test(replicas.outputs));
  const bare = `\n[agent.tls]\nca = "${authority.path('ca.pem')}"\n`;
  await replicas.turnedAway('bare', bare, /only agents open this stream, with a certificate .* this call came without/);
  await authority.sign(9, 'other', 'DNS:other.agents.test');
  await replicas.turnedAway('thief', section('agent', authority, 'other'), /host thief needs a certificate for greenroom-agent, thief\.agents\.test; this one is for other\.agents\.test/);
  await replicas.turnedAway('distrustful', section('agent', foreign, 'agent'), /certificate is signed by none of the authorities/);

  // New certificates: shown to whoever dials from now on, while the streams that are open stay.
  const streams = () => replicas.outputs.match(/agent stream opened/g).length;
  const [opened, ended] = [streams(), (replicas.outputs.match(/agent stream ended/g) ?? []).length];
  await replicas.sign(2001);
  for (const { port } of replicas.replicas) {
    await until('the new certificate is shown', async () => (await shown(`127.0.0.1:${port}`, authority.ca)) === 2001);
  }
  await until('the agent has read its own', () => /certificates were read again/.test(replicas.agents[0].output));
  assert.equal(streams(), opened, 'no stream was opened anew');
  assert.equal((replicas.outputs.match(/agent stream ended/g) ?? []).length, ended, 'and none has ended');

  // The next leader is asked with the new certificates, by replicas that have met it with the old ones.
  const { ms, before } = await failover(replicas, (replica) => replicas.kill(replica));
  t.diagnostic(`failover under mutual TLS: ${Math.round(ms)} ms`);
  assert.ok(ms < 10_000);
  replicas.startReplica(before.replica);
  await until('the one that was killed follows, and its agent is back', async () => {
    const again = await replicas.ask(before.replica, 'POST', '/v1/fleets/chat/rooms', { key: 'guild:1', players: ['ann'] });
    return again.body.room === room.body.room && /agent stream opened/.test(before.replica.run.output);
  }, 30_000);
  assert.match(before.replica.run.output, /agent stream opened/);
});
