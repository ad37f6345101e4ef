// Certificates that live for a test, made by openssl as a person would make them.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';

const run = promisify(execFile);
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** An authority of one test alone, and what it signs. */
export class Authority {
  static async make(t, name = 'a test') {
    const self = new Authority();
    self.folder = await mkdtemp(join(tmpdir(), 'greenroom-ca-'));
    t.after(() => rm(self.folder, { recursive: true }));
    await self.#openssl('req', '-x509', ...KEY, '-days', '2', '-subj', `/CN=${name}`, '-keyout', 'ca.key', '-out', 'ca.pem');
    self.ca = await readFile(self.path('ca.pem'));
    return self;
  }

  path(name) {
    return join(this.folder, name);
  }

  #openssl(...args) {
    return run('openssl', args, { cwd: this.folder });
  }

  /** Signs a certificate with this serial number and puts it there as `<name>.pem` and `<name>.key`, each file at once. */
  async sign(serial, name = 'server', names = 'IP:127.0.0.1,DNS:localhost') {
    await writeFile(this.path('names'), `subjectAltName=${names}\n`);
    await this.#openssl('req', ...KEY, '-subj', `/CN=${name}`, '-keyout', 'new.key', '-out', 'new.csr');
    await this.#openssl('x509', '-req', '-in', 'new.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '1',
      '-set_serial', String(serial), '-extfile', 'names', '-out', 'new.pem');
    await rename(this.path('new.key'), this.path(`${name}.key`));
    await rename(this.path('new.pem'), this.path(`${name}.pem`));
  }
}

/** The serial number of the certificate that a fresh connection is shown. */
export function shown(endpoint, ca) {
  const [host, port] = endpoint.split(':');
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port: Number(port), ca }, () => {
      resolve(Number(`0x${socket.getPeerCertificate().serialNumber}`));
      socket.end();
    });
    socket.on('error', reject);
  });
}
