// What stands before the replicas: it looks at each of them, asks one that answers, and the next one when that breaks off.
//
// Never repeats what may not be done twice: all that is asked through it has a key or only reads.
import { createServer } from 'node:http';

import { pause } from '../harness.mjs';

const LOOK_EVERY = 200;
const ANSWERS_WITHIN = 700;

export class Balancer {
  isOver = false;
  /** Term -> names of those who said that they lead in it. */
  terms = new Map();

  /** `replicas` have `name` and `url`. `deadline` in ms is how long a call may take in all. */
  static async start(replicas, { token, address, deadline }) {
    const self = new Balancer();
    Object.assign(self, { headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, deadline });
    self.replicas = replicas.map(({ name, url }) => ({ name, url, stands: false, leads: false, under: new Set() }));
    self.looks = self.replicas.map((replica) => self.#watch(replica));
    self.server = createServer((request, response) => self.#serve(request, response));
    await new Promise((done) => self.server.listen(0, address, done));
    self.url = `http://${address}:${self.server.address().port}`;
    return self;
  }

  async #watch(replica) {
    while (!this.isOver) {
      try {
        const answer = await fetch(`${replica.url}/readyz`, { signal: AbortSignal.timeout(ANSWERS_WITHIN) });
        const { ready, replica: status } = await answer.json();
        Object.assign(replica, { stands: true, ready, leads: status?.role === 'leader' });
        if (replica.leads && status.term !== undefined) this.#led(status.term, replica.name);
      } catch {
        Object.assign(replica, { stands: false, ready: false, leads: false });
        for (const attempt of replica.under) attempt.abort();
      }
      await pause(LOOK_EVERY);
    }
  }

  #led(term, name) {
    this.terms.set(term, (this.terms.get(term) ?? new Set()).add(name));
  }

  /** Names of those who lead, as each says of itself. */
  get leaders() {
    return this.replicas.filter(({ leads }) => leads).map(({ name }) => name);
  }

  /** One call; gives its answer, or throws when none came in time. */
  async ask(method, path, body) {
    const until = Date.now() + this.deadline;
    let broken = 'no replica stands';
    for (let turn = Math.floor(Math.random() * 3); Date.now() < until; turn += 1) {
      const standing = this.replicas.filter(({ stands }) => stands);
      const replica = standing[turn % Math.max(1, standing.length)];
      if (!replica) {
        await pause(50);
        continue;
      }
      const attempt = new AbortController();
      const over = setTimeout(() => attempt.abort(), until - Date.now());
      replica.under.add(attempt);
      try {
        const answer = await fetch(replica.url + path, { method, body, headers: this.headers, signal: attempt.signal });
        return { status: answer.status, text: await answer.text(), by: replica.name };
      } catch (error) {
        broken = `${replica.name}: ${error.cause?.message ?? error.message}`;
        await pause(20);
      } finally {
        clearTimeout(over);
        replica.under.delete(attempt);
      }
    }
    throw new Error(`no answer within ${this.deadline} ms; last ${broken}`);
  }

  /** The same with JSON on both sides. */
  async call(method, path, body) {
    const { status, text, by } = await this.ask(method, path, body && JSON.stringify(body));
    return { status, by, body: JSON.parse(text || '{}') };
  }

  async #serve(request, response) {
    try {
      let body = '';
      for await (const chunk of request) body += chunk;
      const { status, text } = await this.ask(request.method, request.url, body || undefined);
      response.writeHead(status, { 'content-type': 'application/json' }).end(text);
    } catch (error) {
      response.writeHead(503, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { code: 'unavailable', message: error.message, retryable: true } }));
    }
  }

  async stop() {
    this.isOver = true;
    this.server.close();
    this.server.closeAllConnections();
    await Promise.all(this.looks);
  }
}
