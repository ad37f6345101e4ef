// Callers with a memory: every room and seat that they were ever given is written down, to be judged in the end.
import { pause } from '../harness.mjs';

/** A caller gives up after this, in ms. What is given up by an existing key is a broken promise. */
const PATIENCE = 60_000;
const PLAYERS_OF_KEY = 20;
/** How long an idempotency key holds after its first answer (10 min), with room for how long a call takes. */
const ORDER_HOLDS = 8 * 60_000;

export class Callers {
  /** Every answer: `{kind, id, wasKnown, room, server, seats, at, ms}`. `kind` is `key` or `order`; `ms` with all that was asked again. */
  answers = [];
  /** Every call without one: `{kind, id, wasKnown, why, at}`. */
  failures = [];
  /** Answers that said "ask again", by code. */
  heldOff = {};
  isOver = false;
  #orders = 0;
  /** By kind and id, when its first answer came. */
  #known = new Map();

  /** `every`: ms between two calls of one of five loops. */
  constructor(balancer, fleet, { keys, every }) {
    Object.assign(this, { balancer, fleet, keys, every });
  }

  async begin() {
    for (const key of this.keys) await this.byKey(key);
    if (this.failures.length > 0) throw new Error(`no room at the beginning: ${JSON.stringify(this.failures)}`);
    const pick = (items) => items[Math.floor(Math.random() * items.length)];
    const deeds = [
      () => this.byKey(pick(this.keys)),
      () => this.byKey(pick(this.keys)),
      () => this.order(`order-${(this.#orders += 1)}`),
      () => this.order(pick(this.#repeatable()) ?? `order-${(this.#orders += 1)}`),
      () => this.byKey(`late-${(this.#orders += 1)}`),
    ];
    this.loops = deeds.map(async (deed) => {
      while (!this.isOver) {
        await deed();
        await pause(this.every);
      }
    });
  }

  #repeatable() {
    const since = Date.now() - ORDER_HOLDS;
    return this.answers.filter(({ kind, id }) => kind === 'order' && this.#known.get(`${kind} ${id}`) > since).map(({ id }) => id);
  }

  byKey(key) {
    const player = `${key}/${Math.floor(Math.random() * PLAYERS_OF_KEY)}`;
    return this.#ask('key', key, { key, players: [player], timeout_ms: 8_000 });
  }

  order(id) {
    return this.#ask('order', id, { idempotency_key: id, players: [`${id}/0`, `${id}/1`], timeout_ms: 8_000 });
  }

  /** As a caller does: what may be asked again is, until there is an answer. */
  async #ask(kind, id, body) {
    const began = Date.now();
    const wasKnown = this.#known.has(`${kind} ${id}`); // to a caller who has had its answer
    for (;;) {
      let why;
      try {
        const { status, body: answer } = await this.balancer.call('POST', `/v1/fleets/${this.fleet}/rooms`, body);
        if (status === 200 || status === 201) {
          if (!wasKnown) this.#known.set(`${kind} ${id}`, Date.now());
          const seats = answer.seats.map(({ seat, player }) => ({ seat, player }));
          this.answers.push({ kind, id, wasKnown, room: answer.room, server: answer.server, seats, at: began, ms: Date.now() - began });
          return;
        }
        why = `${status} ${JSON.stringify(answer.error ?? answer)}`;
        if (answer.error?.retryable) this.heldOff[answer.error.code] = (this.heldOff[answer.error.code] ?? 0) + 1;
        if (!answer.error?.retryable) return void this.failures.push({ kind, id, wasKnown, why, at: began });
      } catch (error) {
        why = error.message;
      }
      if (Date.now() - began > PATIENCE) return void this.failures.push({ kind, id, wasKnown, why, at: began });
      await pause(100);
    }
  }

  async end() {
    this.isOver = true;
    await Promise.all(this.loops);
  }

  /** Asks for every promise once more, when all is calm. */
  async again() {
    const keys = new Set(this.answers.filter(({ kind }) => kind === 'key').map(({ id }) => id));
    const orders = new Set(this.#repeatable());
    const left = [...[...keys].map((id) => () => this.byKey(id)), ...[...orders].map((id) => () => this.order(id))];
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let one = left.pop(); one; one = left.pop()) await one();
    }));
  }
}
