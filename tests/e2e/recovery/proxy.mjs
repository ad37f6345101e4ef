// A plain TCP proxy: no stickiness, no look at what passes. It stands for the network and its faults.
import { once } from 'node:events';
import net from 'node:net';

export class Proxy {
  #server = net.createServer((near) => this.#pass(near));
  #pairs = new Set();
  #ports = [];
  #next = 0;

  static async start() {
    const self = new Proxy();
    self.#server.listen(0, '127.0.0.1');
    await once(self.#server, 'listening');
    return self;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** New connections go to these ports in turn; to none, they are closed at once. */
  route(...ports) {
    this.#ports = ports;
  }

  #pass(near) {
    near.on('error', () => {});
    if (this.#ports.length === 0) return near.destroy();
    const far = net.connect(this.#ports[this.#next++ % this.#ports.length], '127.0.0.1');
    const pair = { near, far, halfOpen: false };
    this.#pairs.add(pair);
    far.on('error', () => {});
    for (const end of [near, far]) end.setNoDelay(true);
    near.pipe(far, { end: false });
    far.pipe(near, { end: false });
    near.on('close', () => pair.halfOpen || far.destroy());
    far.on('close', () => {
      near.destroy();
      this.#pairs.delete(pair);
    });
    return undefined;
  }

  /**
   * Cuts all connections, each at a random moment of the next `spread` ms; gives how many. With `halfOpen` the server is
   * not told: its end stays open and silent until `close`, as when a telephone leaves the building.
   */
  async cut({ spread = 0, halfOpen = false } = {}) {
    const pairs = [...this.#pairs].filter((pair) => !pair.halfOpen);
    await Promise.all(pairs.map(async (pair) => {
      await new Promise((done) => setTimeout(done, Math.random() * spread));
      pair.halfOpen = halfOpen;
      if (halfOpen) pair.far.unpipe(pair.near).resume();
      pair.near.resetAndDestroy();
      if (!halfOpen) pair.far.resetAndDestroy();
    }));
    return pairs.length;
  }

  close() {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }
}
