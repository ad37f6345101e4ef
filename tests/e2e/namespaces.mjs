// Machines of a test's own: network namespaces with a wire between them.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import process from 'node:process';
import { promisify } from 'node:util';

import { processesOf, signal } from './harness.mjs';

const exec = promisify(execFile);

/**
 * Two namespaces whose ends of the wire have these addresses (`10.213.0.1/24`), or `why` there are none. At the end of the test
 * they are gone, and every process of its `folder` before them.
 */
export async function twoMachines(t, folder, addresses) {
  const names = ['here', 'there'].map((name) => `gr${name}${process.pid}`);
  const [here, there] = names;
  const ip = (...args) => exec('ip', args);
  t.after(async () => {
    for (const { pid } of await processesOf(folder)) signal(pid, 'SIGKILL');
    for (const name of names) await ip('netns', 'del', name).catch(() => {});
  });
  try {
    for (const name of names) await ip('netns', 'add', name);
    // A name of a device has at most 15 bytes.
    await ip('link', 'add', 'wire', 'netns', here, 'type', 'veth', 'peer', 'name', 'wire', 'netns', there);
    for (const [i, name] of names.entries()) {
      const duplicates = addresses[i].includes(':') ? ['nodad'] : [];
      await ip('-n', name, 'addr', 'add', addresses[i], 'dev', 'wire', ...duplicates);
      await ip('-n', name, 'link', 'set', 'lo', 'up');
      await ip('-n', name, 'link', 'set', 'wire', 'up');
    }
    return { here, there };
  } catch (error) {
    const why = error.code === 'ENOENT' ? 'the command `ip` is missing: apt-get install iproute2' : (error.stderr ?? error.message).trim();
    // Where it can be proven it must be: the tests of CI run as root.
    assert.ok(!process.env.CI && process.getuid() !== 0, `network namespaces cannot be made here: ${why}`);
    return { why: `NOT PROVEN: network namespaces cannot be made by this user: ${why}` };
  }
}

/** Starts a program on a machine; what it says is added up in `output`. */
export function startOn(name, options, program, ...args) {
  const child = spawn('ip', ['netns', 'exec', name, program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const run = { output: '' };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (run.output += chunk));
  return run;
}

/** Runs a program on a machine to its end: what it printed. */
export async function runOn(name, options, program, ...args) {
  const { stdout } = await exec('ip', ['netns', 'exec', name, program, ...args], { maxBuffer: 1 << 24, ...options });
  return stdout;
}
