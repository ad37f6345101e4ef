// What may happen to a player's connection. Servers 0 and 1 are harmed; 2 never is: speakers and the witness are there.
import { pause, until } from '../harness.mjs';

const FLOW = { every: 50, words: 1 };
export const MISSED = 12_000;

/**
 * Name -> what is told about it, how often each player is cut, and the deed. `window` is how long sessions live, in ms;
 * `most` bounds the players where each of them gets much; `refused` is the reason that everybody must be given, unless it
 * came so late that nobody knows it any more.
 */
export const SCENARIOS = {
  network: {
    title: 'network cut, each at a random moment',
    cuts: 1,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      run.proxy.route(run.ports[0], run.ports[1]);
      await run.cut(() => run.proxy.cut({ spread: 1_000 }));
    },
  },
  'half-open': {
    title: 'network cut that the server does not notice',
    cuts: 1,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      run.proxy.route(run.ports[0], run.ports[1]);
      await run.cut(() => run.proxy.cut({ halfOpen: true }));
    },
  },
  sigterm: { title: 'SIGTERM, on to another server', cuts: 1, play: (run) => away(run, 'SIGTERM') },
  kill: { title: '`kill -9`, on to another server', cuts: 1, play: (run) => away(run, 'SIGKILL') },
  restart: {
    title: '`kill -9`, back to the same port',
    cuts: 1,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      await run.cut(async () => {
        await run.subject.signal(0, 'SIGKILL');
        await run.subject.revive(0);
      });
    },
  },
  zero: {
    title: 'SIGTERM before any event was received',
    cuts: 1,
    async play(run) {
      run.proxy.route(run.ports[1]);
      await run.cut(() => run.subject.signal(0, 'SIGTERM'), { meanwhile: () => run.speakers[0].say(3) });
    },
  },
  missed: {
    title: `SIGTERM, then ${MISSED.toLocaleString('en')} broadcasts missed`,
    cuts: 1,
    most: 100,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      await run.hush();
      run.proxy.route();
      await run.cut(() => run.subject.signal(0, 'SIGTERM'), {
        meanwhile: async () => {
          await run.speak(MISSED);
          run.proxy.route(run.ports[1]);
        },
      });
    },
  },
  bulk: {
    title: 'network cut, then 4 MB missed, more than may wait for one connection',
    cuts: 1,
    most: 50,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      await run.hush();
      run.proxy.route();
      await run.cut(() => run.proxy.cut(), {
        meanwhile: async () => {
          await run.speak(2_000, [{ ballast: 'x'.repeat(2_000) }]);
          run.proxy.route(run.ports[0], run.ports[1]);
        },
      });
    },
  },
  idle: {
    title: 'idle for longer than the window, others busy; then cut',
    cuts: 1,
    window: 4_000,
    async play(run) {
      run.speakers[0].say();
      await run.seen(1);
      await run.busyElsewhere(MISSED);
      await pause(run.window * 1.5); // time itself is the fault here
      await run.cut(() => run.proxy.cut());
    },
  },
  late: {
    title: 'away for longer than the window',
    cuts: 1,
    window: 6_000,
    refused: 'window_over',
    options: () => ({ reconnectionDelayMax: 500 }),
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      run.proxy.route();
      await run.cut(() => run.proxy.cut(), {
        meanwhile: async () => {
          await pause(run.window * 1.1); // time itself is the fault here
          run.proxy.route(run.ports[0], run.ports[1]);
        },
      });
    },
  },
  twice: {
    title: '`kill -9` twice in a row',
    cuts: 2,
    async play(run) {
      await away(run, 'SIGKILL');
      await run.subject.revive(0);
      await run.seen(20);
      run.proxy.route(run.ports[0]);
      await run.cut(() => run.subject.signal(1, 'SIGKILL'));
    },
  },
  transports: {
    title: 'cut while polling, back by WebSocket, and the other way round',
    cuts: 1,
    options: (number) => ({ transports: [number % 2 ? 'polling' : 'websocket'] }),
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      run.players.forEach(({ socket }, number) => (socket.io.opts.transports = [number % 2 ? 'websocket' : 'polling']));
      // A polling client repeats a request that was cut; only when nobody answers has it lost its connection.
      run.proxy.route();
      await run.cut(() => run.proxy.cut(), { meanwhile: () => run.proxy.route(run.ports[0]) });
    },
  },
  frozen: {
    title: 'process frozen, players go elsewhere, it thaws',
    cuts: 1,
    async play(run) {
      run.flow(FLOW);
      await run.seen(10);
      run.proxy.route(run.ports[1]);
      await run.subject.signal(0, 'SIGSTOP');
      await run.cut(() => run.proxy.cut({ halfOpen: true }));
      await run.subject.signal(0, 'SIGCONT');
      const some = run.witness.seen.length + 20;
      await until('the thawed server had time to disturb', () => run.witness.seen.length > some);
    },
  },
};

async function away(run, signal) {
  run.flow(FLOW);
  await run.seen(10);
  run.proxy.route(run.ports[1]);
  await run.cut(() => run.subject.signal(0, signal));
}
