// What a client must have seen, judged against the order that was. Never looks at a clock: all moments are given.

/** Random numbers from a seed: the same seed makes the same choices. */
export function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound) => Math.floor(next() * bound);
  return { next, below, between: (low, high) => low + next() * (high - low), pick: (items) => items[below(items.length)] };
}

/** An order to judge by: `words` are `[code, saidAt, isForGroup]`, as somebody saw them who missed nothing. */
export const orderOf = (words) => ({ words, places: new Map(words.map(([code], place) => [code, place])) });

/**
 * Judges one stay: the time from a connect as a stranger to the next such, however often it was cut and recovered.
 *
 * `beganAt` is when the client knew that it was there: what was said to all after it must be seen. What was said to its
 * group must be seen after `settledAt`, when it knew that the server keeps its group. What was said before may be seen.
 * After the first word to all that was seen no other may be missing. `isOpen`: the stay lasts to the end of the order,
 * else to the last word that was seen.
 */
export function judgeStay({ beganAt, settledAt, seen, isOpen }, { words, places }) {
  const known = new Set();
  let doubled = 0, reordered = 0, strange = 0, last = -1, firstForAll = Infinity;
  for (const code of seen) {
    const place = places.get(code);
    if (place === undefined) strange += 1;
    else if (known.has(place)) doubled += 1;
    else {
      known.add(place);
      if (!words[place][2]) firstForAll = Math.min(firstForAll, place);
      if (place < last) reordered += 1;
      last = Math.max(last, place);
    }
  }
  const end = isOpen ? words.length : last + 1;
  const missing = [];
  for (let place = 0; place < end; place += 1) {
    const [code, saidAt, isForGroup] = words[place];
    const isDue = isForGroup ? saidAt >= (settledAt ?? Infinity) : place > firstForAll || saidAt >= beganAt;
    if (isDue && !known.has(place)) missing.push(code);
  }
  return { lost: missing.length, doubled, reordered, strange, missing };
}

/**
 * Judges what came back to its speaker alone. `sent` is `[number, connection]`, numbers go up. On one connection nothing
 * overtakes: where a later word came back, an earlier one must have. A word whose connection was cut may never have
 * reached the server.
 */
export function judgeOwn(sent, seen) {
  const known = new Set(seen);
  const doubled = seen.length - known.size;
  const reordered = seen.filter((number, at) => at > 0 && number < seen[at - 1]).length;
  const missing = [];
  let isSeenLater = false, connection = -1;
  for (const [number, of] of sent.toReversed()) {
    if (of !== connection) [isSeenLater, connection] = [false, of];
    if (known.has(number)) isSeenLater = true;
    else if (isSeenLater) missing.push(number);
  }
  return { lost: missing.length, doubled, reordered, missing };
}

/** How long a store's outage may be felt after its end: the nodes' next attempt, and twice their patience. */
const FELT_FOR = 10_000;
/** A node that dies was last heard up to a second before, and counts as away since then. */
const UNHEARD_FOR = 3_000;

/**
 * Whether the reason that a client was given is true. `refusal`: `{at, node, reason, awayMs, wasKept}`, where `wasKept`
 * says that the client knew its session to be kept. `world`: `window` in ms, and the moments `[from, until]` of trouble:
 * `storeDown`, and `away[node]` when a node was no part of the mesh.
 */
export function isTrue({ at, node, reason, awayMs, wasKept }, { window, storeDown, away }) {
  const overlaps = ([from, until]) => from <= at && until >= at - FELT_FOR;
  switch (reason) {
    case 'unavailable':
      return storeDown.some(overlaps) || away[node].some(overlaps);
    case 'window_over':
      return awayMs >= window - UNHEARD_FOR;
    case 'unknown_session':
      return !wasKept || awayMs >= 2 * window - UNHEARD_FOR;
    default:
      return false; // the store kept all, nothing was too much, and nobody was refused
  }
}
