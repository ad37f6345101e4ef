// The node's example server `echo`. GREENROOM_ECHO_BIN names it; `cargo xtask test` sets it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { createInterface } from 'node:readline';

const BIN = process.env.GREENROOM_ECHO_BIN;
if (!BIN) throw new Error('GREENROOM_ECHO_BIN must name the example server; `cargo xtask test` sets it');

/** Starts one on a free port and gives its address (`ip:port`) and how to stop it, in order or at once. */
export async function startEcho(args = [], env = {}) {
  const server = spawn(BIN, args, {
    env: { ...process.env, PORT: '0', GREENROOM_PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    server.kill('SIGTERM');
    await once(server, 'exit');
  };
  const kill = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    server.kill('SIGKILL');
    await once(server, 'exit');
  };
  for await (const line of createInterface({ input: server.stdout })) {
    const address = /^listening on (.*)$/.exec(line)?.[1];
    if (address) return { address, stop, kill };
  }
  throw new Error('the server ended before it listened');
}

const DEADLINE_MS = 30_000;

/** What an emitter gives next under this name. */
export function next(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
    emitter.once(name, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });
}
