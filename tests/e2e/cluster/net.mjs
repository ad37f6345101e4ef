// Machines of a test on one machine: a network namespace each, on one bridge, with ways between them that are cut one by one.
//
// Everything is in namespaces of the run's own (network, mounts, processes), which the kernel takes away with the first
// process of them, however it ends: no name, address, rule or process is left. Root is not needed where users may make
// namespaces.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import process from 'node:process';
import { promisify } from 'node:util';

const exec = promisify(execFile);

const NET = '10.89.0';
/** The runner's and the players' place on the bridge. */
export const HERE = 'players';
/** Nobody has it: what is sent there is gone, without a word to the sender. */
const NOBODY = '02:00:00:00:00:ff';

const INSIDE = 'GREENROOM_CLUSTER_INSIDE';
export const isInside = () => process.env[INSIDE] === '1';

/**
 * Runs this Node.js script inside of fresh namespaces; gives its exit code. A shell is their first process: it takes the
 * ended children of processes that were killed, as a machine's init does.
 */
export async function inside(script, args) {
  const own = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  const flags = [...own, '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const first = ['sh', '-c', '"$@" & wait $!', 'sh'];
  // Should this process be killed itself, the kernel kills what it started.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...flags, ...first, process.execPath, script, ...args], {
    env: { ...process.env, [INSIDE]: '1' }, stdio: ['ignore', 'inherit', 'inherit'],
  });
  const forward = () => child.kill('SIGKILL');
  process.once('SIGINT', forward).once('SIGTERM', forward).once('exit', forward);
  const [code] = await once(child, 'exit').catch((error) => {
    throw new Error(`setpriv cannot be started: ${error.message}; install it: apt-get install util-linux iproute2`);
  });
  process.off('SIGINT', forward).off('SIGTERM', forward).off('exit', forward);
  return code ?? 1;
}

export class Net {
  #cuts = new Map(); // 'from to' -> how many want it cut
  #pulled = new Map(); // machine -> how many want its cable out

  /** A bridge, and a namespace for each name. */
  static async build(names) {
    const self = new Net();
    self.names = [HERE, ...names];
    // `ip netns` keeps its names there; this copy of it goes with us.
    await exec('mount', ['-t', 'tmpfs', 'tmpfs', '/run']);
    await exec('mkdir', ['/run/netns']);
    // Players dial names, which every machine knows.
    await writeFile('/run/hosts', self.names.map((name) => `${self.address(name)} ${self.host(name)}\n`).join('') + '127.0.0.1 localhost\n');
    await exec('mount', ['--bind', '/run/hosts', '/etc/hosts']);
    const lines = ['link add br0 type bridge', `addr add ${self.address(HERE)}/24 dev br0`, 'link set lo up'];
    lines.push(`link set br0 address ${self.mac(HERE)} up`, ...names.map((name) => `netns add ${name}`));
    await self.#batch(lines);
    for (const name of names) {
      await self.#batch([`link add to-${name} type veth peer name eth0 netns ${name} address ${self.mac(name)}`, `link set to-${name} master br0 up`]);
      await self.#batch([`addr add ${self.address(name)}/24 dev eth0`, 'link set eth0 up', 'link set lo up'], name);
    }
    return self;
  }

  address(name) {
    return `${NET}.${this.names.indexOf(name) + 1}`;
  }

  host(name) {
    return `${name}.test`;
  }

  mac(name) {
    return `02:00:00:00:00:${String(this.names.indexOf(name) + 1).padStart(2, '0')}`;
  }

  /** What to put before a program so that it runs on this machine. */
  on(name) {
    return ['nsenter', `--net=/run/netns/${name}`];
  }

  /** From now on nothing that `from` sends reaches `to`. The other way is another. As often as it is cut it must be healed. */
  async cut(from, to) {
    await this.#count(this.#cuts, `${from} ${to}`, 1, () => this.#way(from, to, NOBODY));
  }

  async heal(from, to) {
    await this.#count(this.#cuts, `${from} ${to}`, -1, () => this.#way(from, to, this.mac(to)));
  }

  /** Takes a machine's cable out. */
  async pull(name) {
    await this.#count(this.#pulled, name, 1, () => this.#batch([`link set to-${name} down`]));
  }

  async plug(name) {
    await this.#count(this.#pulled, name, -1, () => this.#batch([`link set to-${name} up`]));
  }

  async #count(counts, key, by, act) {
    const before = counts.get(key) ?? 0;
    counts.set(key, before + by);
    if (before + by === (by > 0 ? 1 : 0)) await act();
  }

  #way(from, to, mac) {
    const dev = from === HERE ? 'br0' : 'eth0';
    return this.#batch([`neigh replace ${this.address(to)} lladdr ${mac} dev ${dev} nud permanent`], from);
  }

  async #batch(lines, name = HERE) {
    const run = exec('ip', [...(name === HERE ? [] : ['-n', name]), '-batch', '-']);
    run.child.stdin.end(lines.join('\n'));
    await run;
  }
}
