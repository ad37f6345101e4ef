// `greenroom edge` beside a Greenroom of a test.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { BIN, freePorts, until } from './harness.mjs';

/** Starts an edge and gives its address and how to end it; `args` as on the command line. */
export async function startEdge(t, greenroom, args, { port } = {}) {
  const listen = `127.0.0.1:${port ?? (await freePorts(1))}`;
  const edge = spawn(BIN, ['--server', greenroom.url, 'edge', '--listen', listen, ...args], {
    cwd: greenroom.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const self = { url: `http://${listen}`, port: Number(listen.split(':')[1]), output: '' };
  edge.stdout.on('data', (chunk) => (self.output += chunk));
  edge.stderr.on('data', (chunk) => (self.output += chunk));
  const ended = once(edge, 'exit');
  self.end = async (signal = 'SIGTERM') => {
    edge.kill(signal);
    await ended;
    return edge.exitCode;
  };
  t.after(() => self.end('SIGKILL'));
  await until(() => `the edge listens; it said:\n${self.output}`, () => {
    if (edge.exitCode !== null) throw new Error(`it ended with ${edge.exitCode}`);
    return self.output.includes('edge listens');
  });
  return self;
}

/** A polling session by hand, so that each request goes where the test wants; `get` and `post` fail on anything but 200. */
export class Polling {
  static async open(url, query = '') {
    const self = new Polling();
    self.query = `EIO=4&transport=polling${query}`;
    const open = JSON.parse((await self.get(url)).slice(1));
    self.query += `&sid=${open.sid}`;
    await self.post(url, '40');
    await self.until(url, '40{');
    return self;
  }

  async #ask(url, options) {
    const answer = await fetch(`${url}/socket.io/?${this.query}`, options);
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
    return text;
  }

  get(url) {
    return this.#ask(url);
  }

  post(url, body) {
    return this.#ask(url, { method: 'POST', body });
  }

  /** Polls until a packet begins so, and answers pings meanwhile. */
  async until(url, start) {
    for (;;) {
      const packets = (await this.get(url)).split('\x1e');
      if (packets.includes('2')) await this.post(url, '3');
      const found = packets.find((packet) => packet.startsWith(start));
      if (found) return found;
    }
  }
}
