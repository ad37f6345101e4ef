// Game servers whose own port speaks TLS, under a real agent: its probe finds out, answers say `https`, and a new certificate
// is taken up while everybody stays.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';

import { config } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';
import { connect, refusal } from './players.mjs';

const run = promisify(execFile);

/** An authority of this test alone, and what it signs. */
class Authority {
  static async make(t) {
    const self = new Authority();
    self.folder = await mkdtemp(join(tmpdir(), 'greenroom-ca-'));
    t.after(() => rm(self.folder, { recursive: true }));
    await self.#openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
      '-subj', '/CN=a test', '-keyout', 'ca.key', '-out', 'ca.pem');
    self.ca = await readFile(self.path('ca.pem'));
    return self;
  }

  path(name) {
    return join(this.folder, name);
  }

  #openssl(...args) {
    return run('openssl', args, { cwd: this.folder });
  }

  /** Signs a certificate with this serial number and puts it where the servers read it, each file at once. */
  async sign(serial) {
    await writeFile(this.path('names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    await this.#openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost',
      '-keyout', 'new.key', '-out', 'new.csr');
    await this.#openssl('x509', '-req', '-in', 'new.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '1',
      '-set_serial', String(serial), '-extfile', 'names', '-out', 'new.pem');
    await rename(this.path('new.key'), this.path('server.key'));
    await rename(this.path('new.pem'), this.path('server.pem'));
  }
}

/** The serial number of the certificate that a fresh connection is shown. */
function shown(endpoint, ca) {
  const [host, port] = endpoint.split(':');
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port: Number(port), ca }, () => {
      resolve(Number(`0x${socket.getPeerCertificate().serialNumber}`));
      socket.end();
    });
    socket.on('error', reject);
  });
}

const fleet = (name, kind, authority) => `
[fleets.${name}]
kind = "${kind}"
command = ["greenroom", "example", "${name}"]
replicas_min = 1
replicas_max = 1
${kind === 'room' ? 'rooms_per_server = 10\nseats_per_room = 4' : ''}
[fleets.${name}.env]
GREENROOM_TLS_CERTIFICATES = "${authority.path('server.pem')}"
GREENROOM_TLS_KEY = "${authority.path('server.key')}"
`;

test('servers under TLS become ready, are answered as https, and change their certificate without dropping anybody', async (t) => {
  const authority = await Authority.make(t);
  const { ca } = authority;
  await authority.sign(1001);
  const parts = [fleet('relay', 'mesh', authority), fleet('chat', 'room', authority)];
  const greenroom = await withGreenroom(t, config(parts));
  const { endpoint, url } = await greenroom.get('/v1/fleets/relay/endpoint');
  assert.equal(url, `https://${endpoint}`);
  const secure = { ca, transports: ['websocket'] };
  const socket = await connect(url, secure);
  t.after(() => socket.disconnect());
  const ask = (value) => socket.timeout(5_000).emitWithAck('echo', value);
  assert.equal(await ask('by wss'), 'by wss');
  assert.equal(await shown(endpoint, ca), 1001);
  assert.match((await refusal(url, { transports: ['websocket'] })).message, /websocket error/, 'nobody else vouches for it');

  const room = await greenroom.allocate('chat', { key: 'guild:1', players: ['ann'] });
  assert.equal(room.url, `https://${room.endpoint}`);
  const ann = await connect(room.url, { ca, auth: { token: room.seats[0].token } });
  t.after(() => ann.disconnect());
  const again = await greenroom.allocate('chat', { key: 'guild:1', players: ['bob'] });
  assert.deepEqual([again.room, again.url], [room.room, room.url]);

  let ends = 0;
  for (const kept of [socket, ann]) kept.on('disconnect', () => (ends += 1));
  await authority.sign(1002);
  await until('new connections are shown the new certificate', async () => (await shown(endpoint, ca)) === 1002);
  const fresh = await connect(url, secure);
  t.after(() => fresh.disconnect());
  assert.equal(await fresh.timeout(5_000).emitWithAck('echo', 'new'), 'new');
  assert.equal(await ask('still here'), 'still here');
  assert.equal(ends, 0);
  const { fleets } = await greenroom.get('/v1/fleets');
  assert.deepEqual(fleets.map(({ ready }) => ready), [1, 1]);
});
