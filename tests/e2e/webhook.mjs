// A back end's webhook: takes the results of ended rooms, and can be told to fail first.
import http from 'node:http';

export class Webhook {
  /** `failures`: how many of the first requests get a 500. */
  static async start(t, { failures = 0 } = {}) {
    const self = new Webhook();
    self.failures = failures;
    self.server = http.createServer((request, response) => self.#take(request, response));
    await new Promise((done) => self.server.listen(0, '127.0.0.1', done));
    self.url = `http://127.0.0.1:${self.server.address().port}/rooms`;
    t.after(() => self.server.close());
    return self;
  }

  /** Stored effects by idempotency key, as a back end would keep them. */
  stored = new Map();

  /** Every request that came, also those that were refused or repeated. */
  requests = 0;

  #take(request, response) {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      this.requests += 1;
      if (this.requests <= this.failures) return response.writeHead(500).end();
      const key = request.headers['idempotency-key'];
      if (!this.stored.has(key)) this.stored.set(key, JSON.parse(body));
      return response.writeHead(204).end();
    });
  }
}
