// One version of the control plane is exchanged for another, part by part, and back again, while everybody goes on: each
// version leads beside the other, takes over from it, passes calls on to it, and speaks with its agents.
import { pause, until } from '../harness.mjs';

/** How long each mixture is looked at. */
const HOLD = 2_000;

export class Exchange {
  done = {};

  constructor(cluster, say) {
    Object.assign(this, { cluster, say });
  }

  /** From `older`, which all run, to `newer` and back. */
  async run({ older, newer }) {
    const [a, b, c] = this.cluster.replicas;
    await this.#exchange(a, newer, 'newer');
    await this.#lead(a, 'the newer leads, the older follow');
    await this.#lead(b, 'an older leads, one newer follows');
    for (const member of [c, b, ...this.cluster.agents]) await this.#exchange(member, newer, 'newer');
    await this.#hold('all are newer');
    await this.#exchange(b, older, 'older');
    await this.#lead(b, 'an older leads, and its agents are newer');
    for (const member of [a, c, ...this.cluster.agents]) await this.#exchange(member, older, 'older');
    await this.#hold('all are older again');
  }

  async #hold(what) {
    this.say(what);
    this.done[what] = 1;
    await pause(HOLD);
  }

  /** As an operator does it: told to stop, and started again once it has ended. The rest waits until it is back. */
  async #exchange(member, bin, word) {
    this.say(`${member.name} becomes ${word}`);
    await member.end();
    member.run(bin);
    await member.begin();
    await this.#isBack(member);
  }

  async #isBack({ name }) {
    const replica = this.cluster.balancer.replicas.find((one) => one.name === name);
    if (replica) return until(() => `${name} is ready`, () => replica.ready, 30_000);
    return until(() => `${name} is heard`, async () => {
      const { hosts } = await this.cluster.get('/v1/hosts');
      return hosts.find((host) => host.name === name)?.connected;
    }, 30_000);
  }

  /** Makes one lead by stopping the others for a moment. */
  async #lead(member, what) {
    const others = this.cluster.replicas.filter((other) => other !== member);
    for (const other of others) await other.end();
    await until(() => `${member.name} leads`, () => this.cluster.balancer.leaders.includes(member.name), 20_000);
    for (const other of others) await other.begin();
    for (const other of others) await this.#isBack(other);
    await this.#hold(what);
  }
}
