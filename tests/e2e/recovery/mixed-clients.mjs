// A process of stock clients for the mixed run. Each goes to any of the nodes whenever it connects, keeps what it sees, and
// is judged here, so that only counts travel. Started by mixed.mjs, and told by messages what to do.
import process from 'node:process';

import { io } from 'socket.io-client';

import { judgeOwn, judgeStay, orderOf, seeded } from './sequence.mjs';

const OWN_EVERY = 2_000;

class Player {
  /** Times between connects as a stranger. */
  stays = [];
  sent = [];
  cameBack = [];
  refusals = [];
  /** Returns that were neither recovered nor given a reason. */
  silent = [];
  recoveries = 0;
  connection = 0;
  goneAt = 0;

  constructor(number, urls, groups, random) {
    Object.assign(this, { number, urls, random, group: `group-${number % groups}`, state: { colour: `#${number}` } });
    this.node = random.below(urls.length);
    this.socket = io(urls[this.node], {
      forceNew: true, transports: ['websocket'], auth: { greenroom: { recovery: true } },
      reconnectionDelay: 100, reconnectionDelayMax: 1_000, timeout: 1_500,
    });
    this.socket.on('connect', () => this.#connected());
    this.socket.on('greenroom:recovery', (word) => this.#told(word));
    this.socket.on('disconnect', () => {
      if (this.isThere) this.goneAt = Date.now(); // the stock client says it of a vain attempt too
      this.isThere = false;
      this.#elsewhere();
    });
    this.socket.io.on('reconnect_attempt', () => this.#elsewhere());
    this.socket.on('connect_error', (error) => (this.error = error.message));
    this.socket.on('all', (code) => this.stays.at(-1).seen.push(code));
    this.socket.on('pos', (code) => this.stays.at(-1).seen.push(code));
    this.socket.on('mine', (number) => this.#heardOwn(number));
  }

  /** Any node, as behind a proxy without stickiness. The stock manager reads its `uri` at each attempt. */
  #elsewhere() {
    this.node = this.random.below(this.urls.length);
    this.socket.io.uri = this.urls[this.node];
  }

  #connected() {
    this.connection += 1;
    this.isThere = true;
    this.awaitsWord = false;
    if (this.socket.recovered) {
      this.recoveries += 1;
    } else {
      this.awaitsWord = this.stays.length > 0;
      this.before = this.stays.at(-1);
      this.stays.push({ beganAt: Date.now(), seen: [], id: this.socket.id });
    }
    if (!this.stays.at(-1).settledAt) void this.#settle();
    clearInterval(this.speaking);
    if (!isHushed) this.speaking = setInterval(() => this.#sayOwn(), OWN_EVERY * this.random.between(0.5, 1.5));
  }

  #told({ recovered, reason }) {
    if (recovered || !this.awaitsWord) return;
    this.awaitsWord = false;
    if (!reason) return void this.silent.push({ at: Date.now(), node: this.node });
    const at = Date.now();
    const { settledAt } = this.before;
    this.refusals.push({ at, player: this.number, node: this.node, reason, awayMs: at - this.goneAt, wasKept: settledAt !== undefined });
  }

  /** Enters its group and leaves something. Once a word to itself has come back, the server keeps all that was before it. */
  async #settle() {
    const stay = this.stays.at(-1);
    try {
      await this.socket.timeout(10_000).emitWithAck('join', this.group);
      await this.socket.timeout(10_000).emitWithAck('set', this.state);
      stay.settles = this.#sayOwn();
    } catch {
      // Cut meanwhile: the next connect tries again.
    }
  }

  #sayOwn() {
    if (!this.socket.connected) return undefined;
    const number = (this.sent.at(-1)?.[0] ?? 0) + 1;
    this.sent.push([number, this.connection]);
    this.socket.emit('mine', number);
    return number;
  }

  #heardOwn(number) {
    this.cameBack.push(number);
    const stay = this.stays.at(-1);
    if (stay.settles !== undefined && number >= stay.settles) stay.settledAt ??= Date.now();
  }

  /** Loses its connection; with `halfOpen` the server is not told. */
  cut(halfOpen) {
    const { engine } = this.socket.io;
    const ws = engine?.transport?.ws;
    const raw = ws?._socket;
    if (!this.socket.connected || !raw) return;
    if (halfOpen) {
      ws.close = () => {};
      this.strays = (this.strays ?? []).concat(raw); // stays open and silent until the server gives it up
      engine._onClose('transport close');
    } else {
      raw.resetAndDestroy();
    }
  }

  /** Loses its connection and does not try again for so long. */
  sleep(ms) {
    if (!this.socket.connected) return;
    this.socket.io.reconnection(false);
    this.cut(false);
    setTimeout(() => {
      this.socket.io.reconnection(true);
      this.socket.connect();
    }, ms);
  }

  get progress() {
    return this.stays.reduce((sum, { seen }) => sum + seen.length, 0) + this.cameBack.length;
  }

  async judge(order) {
    const total = { lost: 0, doubled: 0, reordered: 0, strange: 0, ownLost: 0, ownDoubled: 0, ownReordered: 0, notWhole: 0, notBack: 0 };
    const notes = [];
    if (!this.socket.connected) {
      total.notBack = 1;
      notes.push(`player ${this.number} is not back: ${this.error}`);
    }
    this.stays.forEach((stay, at) => {
      const found = judgeStay({ ...stay, isOpen: at === this.stays.length - 1 }, order);
      for (const key of ['lost', 'doubled', 'reordered', 'strange']) total[key] += found[key];
      if (found.lost + found.doubled + found.reordered + found.strange > 0) notes.push({ player: this.number, at, beganAt: stay.beganAt, settledAt: stay.settledAt, ...found, missing: found.missing.slice(0, 5) });
    });
    const own = judgeOwn(this.sent, this.cameBack);
    Object.assign(total, { ownLost: own.lost, ownDoubled: own.doubled, ownReordered: own.reordered });
    if (own.lost + own.doubled + own.reordered > 0) notes.push({ player: this.number, own });
    const stay = this.stays.at(-1);
    if (stay?.settledAt && this.socket.connected) {
      const { id, data, rooms } = await this.socket.timeout(20_000).emitWithAck('get');
      const is = JSON.stringify([id, data, rooms.filter((room) => room !== id)]);
      const must = JSON.stringify([stay.id, this.state, [this.group]]);
      if (is !== must) {
        total.notWhole = 1;
        notes.push(`player ${this.number} has ${is}, not ${must}`);
      }
    }
    return { total, notes };
  }

  end() {
    clearInterval(this.speaking);
    this.socket.disconnect();
    this.strays?.forEach((raw) => raw.destroy());
  }
}

let players = [], isHushed = false, random;
const deeds = {
  async connect({ from, count, urls, groups, seed }) {
    random = seeded(seed);
    for (let at = 0; at < count; at += 10) {
      const batch = Array.from({ length: Math.min(10, count - at) }, (_, i) => new Player(from + at + i, urls, groups, random));
      players.push(...batch);
      while (!batch.every(({ socket, stays }) => socket.connected && stays.at(-1)?.settledAt)) await new Promise((done) => setTimeout(done, 20));
    }
  },
  /** Cuts a share of the clients, of those at `node` if one is named, each at a random moment within `spread` ms. */
  cut({ share, spread, halfOpen, node }) {
    for (const player of players) {
      if (random.next() < share) setTimeout(() => (node === undefined || player.node === node) && player.cut(halfOpen), random.next() * spread);
    }
  },
  sleep({ count, ms }) {
    for (let i = 0; i < count; i += 1) random.pick(players).sleep(ms);
  },
  look: () => ({ progress: players.reduce((sum, { progress }) => sum + progress, 0), back: players.filter(({ socket }) => socket.connected).length }),
  hush() {
    isHushed = true;
    players.forEach((player) => clearInterval(player.speaking));
  },
  async judge({ orders }) {
    const judged = orders.map(orderOf);
    const found = await Promise.all(players.map((player) => player.judge(judged[player.number % judged.length])));
    const total = {};
    for (const each of found) for (const [key, value] of Object.entries(each.total)) total[key] = (total[key] ?? 0) + value;
    return {
      total,
      notes: found.flatMap(({ notes }) => notes).slice(0, 20),
      refusals: players.flatMap(({ refusals }) => refusals),
      silent: players.flatMap(({ silent, awaitsWord, number }) => [...silent, ...(awaitsWord ? [{ player: number }] : [])]),
      recoveries: players.reduce((sum, { recoveries }) => sum + recoveries, 0),
      seen: players.reduce((sum, { progress }) => sum + progress, 0),
    };
  },
  end() {
    players.forEach((player) => player.end());
    setTimeout(() => process.exit(), 100);
  },
};

process.on('message', async ({ ask, deed, ...rest }) => {
  try {
    process.send({ ask, answer: (await deeds[deed](rest)) ?? null });
  } catch (error) {
    process.send({ ask, error: String(error.stack) });
  }
});
process.on('disconnect', () => process.exit());
