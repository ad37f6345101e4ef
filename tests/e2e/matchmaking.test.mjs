// Rules of matching through the real binary: ratings that a window parts, keywords, modes, and why somebody waits (L-5).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { arena, config, lobby } from './configs.mjs';
import { BIN, groupBy, test, until, withGreenroom } from './harness.mjs';
import { connect, next } from './players.mjs';

const rules = (text) => `\n[fleets.arena.match]\n${text}\n`;

const filing = (greenroom, owner) => ({
  file: async (tickets) => {
    const { status, body } = await greenroom.post('/v1/fleets/arena/tickets', { owner, tickets });
    assert.equal(status, 200, JSON.stringify(body));
    return body.refused;
  },
  told: new Map(),
  async poll() {
    const ack = [...this.told.keys()];
    const { body } = await greenroom.post('/v1/assignments', { owner, ack, wait_ms: 200 });
    for (const { ticket, allocation } of body.assignments) this.told.set(ticket, allocation.room);
    return this.told;
  },
});

const explain = async (greenroom, ticket, ...rest) => {
  const args = ['--server', greenroom.url, 'explain', 'ticket', ticket, ...rest];
  return (await promisify(execFile)(BIN, args)).stdout;
};

test('200 players of two crowds are matched within their crowd, and the last ones once the window is wide', async (t) => {
  const widening = rules('rating = { window = 100, widens_by = 500, every = "6s", window_max = 600 }');
  const greenroom = await withGreenroom(t, config([arena({ min: 4, max: 4 }) + widening]));
  // 98 and 102: two of each crowd are left over, whichever they are.
  const crowd = (name, count, rating) =>
    Array.from({ length: count }, (_, i) => ({ id: `${name}${i}`, players: [`${name}${i}`], rating: rating + ((i * 7) % 100) }));
  const tickets = [...crowd('low', 98, 1_000), ...crowd('high', 102, 1_500)];
  const rating = new Map(tickets.map((ticket) => [ticket.id, ticket.rating]));
  const desk = filing(greenroom, 'backend');
  assert.deepEqual(await desk.file(tickets), []);
  const spreads = () =>
    [...groupBy([...desk.told], ([, room]) => room).values()].map((members) => {
      assert.equal(members.length, 4, 'whole matches');
      const ratings = members.map(([id]) => rating.get(id));
      return Math.max(...ratings) - Math.min(...ratings);
    });
  await until('all but two of each crowd play', async () => (await desk.poll()).size >= tickets.length - 4, 20_000);
  const crossing = spreads().filter((spread) => spread > 100).length;
  assert.equal(crossing, desk.told.size === tickets.length ? 1 : 0, 'nobody plays across before the window is wide');
  await until('the window reaches both crowds', async () => (await desk.poll()).size === tickets.length, 30_000);
  const wide = spreads().filter((spread) => spread > 100);
  assert.equal(wide.length, 1, 'the four that were left over play together');
  assert.ok(wide[0] <= 600, `${wide[0]}`);
});

test('a keyword joins friends of all ratings, and explain says why the others wait', async (t) => {
  const text = 'by = ["mode"]\nrating = { window = 100, widens_by = 100, every = "10m", window_max = 300 }';
  const greenroom = await withGreenroom(t, config([lobby(1), arena({ min: 1, max: 1 }) + rules(text)]));
  const desk = filing(greenroom, 'backend');
  const of = (id, rating, mode, keyword) => ({ id, players: [id], rating, attributes: { mode }, keyword });
  const refused = await desk.file([
    of('f1', 100, 'duel', 'friends'),
    of('f2', 9_000, 'duel', 'friends'),
    { ...of('f3', 5_000, 'duel', 'friends'), players: ['f3', 'f3b'] },
    of('a', 1_000, 'duel'),
    of('b', 1_050, 'duel'),
    of('c', 1_500, 'duel'),
    of('d', 1_000, 'team'),
    of('e', 1_000, 'duel', 'others'),
    { id: 'x', players: ['x'], attributes: { mode: 'duel' } },
    { id: 'y', players: ['y'], rating: 1_000 },
  ]);
  assert.deepEqual(refused.map(({ id, code }) => [id, code]), [['x', 'bad_request'], ['y', 'bad_request']]);
  await until('the friends play', async () => (await desk.poll()).size === 3, 20_000);
  assert.deepEqual([...desk.told.keys()].sort(), ['f1', 'f2', 'f3']);
  assert.equal(new Set(desk.told.values()).size, 1, 'in one room');

  const words = (await explain(greenroom, 'a')).replace(/\d+\.\d s/g, 'N s').replace(/ +$/gm, '');
  assert.equal(
    words.trim().replace(/ {2,}/g, '  '),
    [
      'ticket a: 1 of 4 players, waiting for a match in fleet arena for N s',
      'only with: mode "duel"',
      'rating 1000, window 100, 200 in N s; of all in a match the window of the longest-waiting counts',
      'waits for 2 more players',
      '',
      'OTHERS THAT WAIT  TICKETS',
      'another keyword, or one of the two has none  1',
      'another mode  1',
      'rating too far away  1',
      'free to play with it, 1 players  1',
      'all  4',
    ].join('\n'),
  );
  const told = JSON.parse(await explain(greenroom, 'a', '-o', 'json'));
  assert.deepEqual([told.state, told.window, told.why.missing_players], ['waiting', 100, 2]);
  assert.match(await explain(greenroom, 'f1'), /^ticket f1: plays in room r-\S+ of fleet arena/);
  await assert.rejects(explain(greenroom, 'nobody'), /there is no ticket nobody/);
});

test('friends who tell the lobby one word play together, and nobody else with them', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(1), arena({ min: 1, max: 1 })]));
  const { url } = await greenroom.get('/v1/fleets/lobby/endpoint');
  const ask = async (player, keyword) => {
    const socket = await connect(url);
    t.after(() => socket.disconnect());
    const matched = next(socket, 'matched');
    socket.emit('match', { player, ...(keyword && { keyword }) });
    return { player, matched };
  };
  const strangers = await Promise.all(['s1', 's2', 's3'].map((player) => ask(player)));
  const friends = await Promise.all(['f1', 'f2', 'f3', 'f4'].map((player) => ask(player, 'our word')));
  const rooms = await Promise.all(friends.map(async ({ matched }) => (await matched).room));
  assert.equal(new Set(rooms).size, 1);
  const { rooms: told } = await greenroom.get('/v1/rooms?fleet=arena');
  assert.deepEqual(told[0].seats.map(({ player }) => player).sort(), ['f1', 'f2', 'f3', 'f4']);
  const fourth = await ask('s4');
  const one = await Promise.all([...strangers, fourth].map(async ({ matched }) => (await matched).room));
  assert.equal(new Set(one).size, 1);
});
