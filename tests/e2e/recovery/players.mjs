// Stock clients that write down what they see, and the judge who knows what each of them must have seen.
import { io } from 'socket.io-client';

/** A stock client. Everything it keeps is what an application could keep. */
export class Watcher {
  seen = [];
  connects = 0;
  recoveries = 0;
  reasons = [];
  backAt = 0;

  constructor(url, options = {}) {
    this.socket = io(url, { forceNew: true, transports: ['websocket'], auth: { greenroom: { recovery: true } }, ...options });
    this.socket.on('connect', () => {
      this.connects += 1;
      this.backAt = performance.now();
      if (this.connects > 1 && this.socket.recovered) this.recoveries += 1;
    });
    this.socket.on('all', (code) => this.seen.push(code));
    this.socket.on('greenroom:recovery', ({ recovered, reason }) => this.connects > 1 && !recovered && this.reasons.push(reason));
  }

  ask(...args) {
    return this.socket.timeout(20_000).emitWithAck(...args);
  }

  /** Enters a group and leaves something with the server, so that there is a state to keep. */
  async settle(number) {
    this.state = { data: { colour: `#${number}` }, rooms: [`group-${number % 7}`] };
    await this.ask('join', this.state.rooms[0]);
    await this.ask('set', this.state.data);
    this.id = this.socket.id;
  }

  /** Whether id, groups and data are those of before. */
  async isWhole() {
    const { id, data, rooms } = await this.ask('get');
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    return id === this.id && same(data, this.state.data) && same(rooms.filter((room) => room !== id), this.state.rooms);
  }
}

/** Says numbered words to everybody: `speaker * WORDS + n`, n from 1. Its server is never harmed. */
export const WORDS = 10_000_000;

export class Speaker {
  said = 0;

  constructor(number, url) {
    this.number = number;
    this.socket = io(url, { forceNew: true, transports: ['websocket'] });
  }

  /** Each word with `ballast` behind it, for those that count bytes. */
  say(count = 1, ballast = []) {
    for (let i = 0; i < count; i += 1) this.socket.emit('all', this.number * WORDS + (this.said += 1), ...ballast);
  }
}

/**
 * Compares what somebody saw with the order that was: how many are missing, came twice, or came after a later one.
 * `places` is `placesOf` that order.
 */
export function compare(seen, places) {
  const known = new Set();
  let doubled = 0, reordered = 0, strange = 0, last = -1;
  for (const code of seen) {
    const place = places.get(code);
    if (place === undefined) strange += 1;
    else if (known.has(code)) doubled += 1;
    else {
      known.add(code);
      if (place < last) reordered += 1;
      last = Math.max(last, place);
    }
  }
  return { lost: places.size - known.size, doubled, reordered, strange };
}

export const placesOf = (order) => new Map(order.map((code, place) => [code, place]));
