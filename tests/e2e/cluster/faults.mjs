// What goes wrong, drawn by a seed: who is killed, frozen or cut off, when and for how long.
//
// `draw` is pure: the same seed gives the same list. Who leads is looked up at the moment itself.
import { pause } from '../harness.mjs';
import { seeded } from '../recovery/sequence.mjs';

/** At most this long, so that a host is not given up and a server is not killed for being frozen. */
const LASTING = [1_000, 8_000];
const DOWN = [0, 2_000];
const GAP = [300, 3_500];
const WHOM = ['leader', 'leader', 'leader', 'follower', 'follower', 'store', 'store', 'agent'];
const KINDS = ['kill', 'kill', 'freeze', 'freeze', 'cable', 'way', 'way', 'pair'];
/** The other end of a way that is cut. */
const OTHER = { leader: ['follower', 'store', 'agent'], follower: ['leader', 'store', 'agent'], store: ['leader', 'follower'], agent: ['leader', 'follower'] };

/** Faults within `seconds`, by moment: `{at, kind, whom, nth, other, lasting}`, times in ms; several overlap. */
export function draw(seed, seconds) {
  const random = seeded(seed);
  const faults = [];
  for (let at = random.between(...GAP); at < seconds * 1_000; at += random.between(...GAP)) {
    const [kind, whom, nth] = [random.pick(KINDS), random.pick(WHOM), random.below(6)];
    const isReversed = random.next() < 0.5;
    const lasting = kind === 'kill' ? random.between(...DOWN) : random.between(...LASTING);
    faults.push({ at: Math.round(at), kind, whom, nth, other: random.pick(OTHER[whom]), isReversed, lasting: Math.round(lasting) });
  }
  return faults;
}

/** Carries faults out on a cluster; every one of them is undone when `run` has ended. */
export class Hand {
  done = {};
  skipped = 0;

  constructor(cluster, say) {
    Object.assign(this, { cluster, say, hurt: new Set() });
  }

  async run(faults) {
    this.began = Date.now();
    await Promise.all(faults.map(async (fault) => {
      await pause(Math.max(0, this.began + fault.at - Date.now()));
      await this.#carryOut(fault);
    }));
  }

  #whom(word, nth) {
    const { replicas, agents, store } = this.cluster;
    const [leader] = this.cluster.balancer.leaders;
    const names = replicas.map(({ name }) => name);
    const followers = names.filter((name) => name !== leader);
    switch (word) {
      case 'leader': return leader ?? names[nth % names.length];
      case 'follower': return followers[nth % followers.length];
      case 'agent': return agents[nth % agents.length].name;
      default: return store.name;
    }
  }

  async #carryOut({ kind, whom, nth, other, isReversed, lasting }) {
    const name = this.#whom(whom, nth);
    const isOfProcess = kind === 'kill' || kind === 'freeze';
    if (isOfProcess && this.hurt.has(name)) {
      this.skipped += 1;
      return;
    }
    const peer = this.#whom(other, nth + 1);
    const ways = { way: [isReversed ? [peer, name] : [name, peer]], pair: [[name, peer], [peer, name]] }[kind] ?? [];
    const what = ways.length > 0 ? `${ways.map((way) => way.join('->')).join(' and ')} cut` : `${kind} ${name}`;
    this.say(`${what} (${whom}) for ${lasting} ms`);
    const label = `${kind} ${whom}`;
    this.done[label] = (this.done[label] ?? 0) + 1;
    if (isOfProcess) this.hurt.add(name);
    await this.#hurt(kind, name, ways);
    await pause(lasting);
    await this.#undo(kind, name, ways);
    this.hurt.delete(isOfProcess ? name : undefined);
  }

  async #hurt(kind, name, ways) {
    const member = this.cluster.member(name);
    if (kind === 'kill') await member.kill();
    else if (kind === 'freeze') member.signal('SIGSTOP');
    else if (kind === 'cable') await this.cluster.net.pull(name);
    else for (const [from, to] of ways) await this.cluster.net.cut(from, to);
  }

  async #undo(kind, name, ways) {
    const member = this.cluster.member(name);
    if (kind === 'kill') await member.begin();
    else if (kind === 'freeze') member.signal('SIGCONT');
    else if (kind === 'cable') await this.cluster.net.plug(name);
    else for (const [from, to] of ways) await this.cluster.net.heal(from, to);
  }
}
