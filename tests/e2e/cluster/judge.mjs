// What must be true of a run, and what was not. Pure: everything that is known is given, nothing is asked.

/** Groups of more than one, by what `by` says. */
function twice(items, by) {
  const groups = new Map();
  for (const item of items) groups.set(by(item), [...(groups.get(by(item)) ?? []), item]);
  return [...groups].filter(([, group]) => group.length > 1);
}

const list = (items) => items.slice(0, 5).join(', ') + (items.length > 5 ? ` and ${items.length - 5} more` : '');

/** The trail against the processes: who was started and stopped, how often, and whether somebody was on it. */
function servers({ trail, births, alive, known }, fault) {
  const of = (action) => trail.filter((entry) => entry.action === action);
  for (const [number, next] of trail.slice(1).map((entry, at) => [trail[at].number, entry.number])) {
    if (next !== number + 1) fault(`the trail goes from ${number} to ${next}`);
  }
  for (const action of ['server_started', 'server_stopped']) {
    for (const [name, entries] of twice(of(action), ({ subject }) => subject)) fault(`${name}: ${action} ${entries.length} times`);
  }
  for (const [name, born] of twice(births, ({ name }) => name)) fault(`${name} was born ${born.length} times: pids ${list(born.map(({ pid }) => pid))}`);
  const started = new Set(of('server_started').map(({ subject }) => subject));
  const stopped = new Set(of('server_stopped').map(({ subject }) => subject));
  for (const { name } of births) if (!started.has(name)) fault(`${name} was born and never ordered`);
  for (const name of stopped) if (!started.has(name)) fault(`${name} was stopped and never ordered`);
  for (const { subject } of of('server_stopped').filter(({ busy }) => busy)) fault(`${subject} was stopped while somebody was on it`);
  for (const action of ['server_died', 'server_gone', 'server_restarted']) {
    for (const { subject, reason } of of(action)) fault(`${subject}: ${action}, and nobody had harmed it: ${reason}`);
  }
  const living = new Set(alive.map(({ name }) => name));
  for (const { name } of births) if (!living.has(name) && !stopped.has(name)) fault(`${name} ended and nobody had told it to`);
  for (const name of living) if (!known.includes(name)) fault(`${name} runs and control does not know it`);
  for (const name of known) if (!living.has(name)) fault(`${name} is known to control and does not run`);
}

/** Every answer that was ever given, against every other one and against what is kept in the end. */
function promises({ answers, failures, rooms, trail }, fault) {
  const kept = new Map(rooms.map((room) => [room.room, room]));
  const owners = new Map();
  const given = new Map();
  const places = new Map();
  for (const { kind, id, room, server, seats } of answers) {
    const who = `${kind} ${id}`;
    if ((given.get(who) ?? room) !== room) fault(`${who} was given ${given.get(who)} and ${room}`);
    if ((owners.get(room) ?? who) !== who) fault(`${room} was given to ${owners.get(room)} and ${who}`);
    given.set(who, room);
    owners.set(room, who);
    for (const { seat, player } of seats) {
      const place = places.get(`${room} ${seat}`) ?? { room, seat, player };
      if (place.player !== player) fault(`seat ${seat} of ${room} was given to ${place.player} and ${player}`);
      places.set(`${room} ${seat}`, place);
    }
    const now = kept.get(room);
    if (now && now.server !== server) fault(`${room} was on ${server} and is on ${now.server}`);
  }
  for (const [room, who] of owners) {
    const now = kept.get(room);
    if (!now || now.phase === 'ended') fault(`${room}, given to ${who}, is not kept`);
    else if (who !== `key ${now.key}` && who.startsWith('key ')) fault(`${room}, given to ${who}, has the key ${now.key}`);
  }
  for (const { room, seat, player } of places.values()) {
    const holder = kept.get(room)?.seats.find((one) => one.seat === seat)?.player;
    if (kept.has(room) && holder !== player) fault(`seat ${seat} of ${room} was given to ${player} and is kept for ${holder ?? 'nobody'}`);
  }
  // A call that had no answer may have made a room, and only such a call.
  const unanswered = failures.length;
  const unowned = rooms.filter(({ room }) => !owners.has(room)).map(({ room }) => room);
  if (unowned.length > unanswered) fault(`kept and given to nobody: ${list(unowned)}`);
  const promised = new Set(answers.map(({ server }) => server));
  for (const { subject } of trail.filter(({ action }) => action === 'server_stopped')) {
    if (promised.has(subject)) fault(`${subject} was stopped, and rooms were promised on it`);
  }
  for (const { kind, id, wasKnown, why } of failures) fault(`${wasKnown ? 'an existing' : 'a new'} ${kind} ${id} was refused: ${why}`);
}

/** One leader in each term, and one in the end; terms go up. */
function leaders({ terms, standing }, fault) {
  for (const [term, names] of terms) if (names.length > 1) fault(`in term ${term} ${names.join(' and ')} led`);
  if (standing.leaders.length !== 1) fault(`in the end ${standing.leaders.join(' and ') || 'nobody'} leads`);
  for (const { name, ready } of standing.replicas) if (!ready) fault(`in the end ${name} is not ready`);
  for (const { name, ready, replicas_min: min } of standing.fleets) if (ready !== min) fault(`in the end fleet ${name} has ${ready} of ${min}`);
}

/** What the product says of itself: never that it did what it must not. How long things took is the machine's matter too. */
function objectives({ slos }, fault) {
  for (const { name, promise, missed, seen } of slos) {
    if (['nobody_stopped', 'rooms_kept'].includes(name) && missed > 0) fault(`the leader tells ${missed} of ${seen} times against "${promise}"`);
  }
}

/** What players saw who were there meanwhile. */
function players({ swarms }, fault) {
  for (const { seed, code, violations, faults } of swarms) {
    for (const violation of violations) fault(`players of seed ${seed}: ${violation}`);
    if (faults > 0) fault(`players of seed ${seed}: ${faults} had a fault`);
    if (code !== 0 && violations.length === 0 && faults === 0) fault(`players of seed ${seed} ended with ${code}`);
  }
}

/** A run in which nothing happened proves nothing. */
function substance({ faults, answers, births, trail, swarms }, fault) {
  if (Object.keys(faults).length === 0) fault('nothing went wrong: the run shows nothing');
  if (answers.length === 0) fault('nobody called: the run shows nothing');
  if (swarms.length === 0 || swarms.every(({ finished }) => finished === 0)) fault('nobody played: the run shows nothing');
  if (births.length <= 4) fault('nothing was started under the faults: the run shows nothing');
  if (!trail.some(({ action }) => action === 'server_stopped')) fault('nothing was stopped under the faults: the run shows nothing');
}

/**
 * Everything that was wrong in a run, in words; empty when all is well. In it are: `trail`, the audit trail, oldest first;
 * `births` and `alive`, what the machines themselves say of processes; `known`, the names of the servers that control knows
 * in the end; `answers` and `failures` of callers; `rooms`, those of the callers' fleet as they are kept in the end; `terms`
 * and who led in each; `standing`, who leads and is ready in the end; `slos`, what the leader tells of itself; `swarms`, what players saw; `faults`, what was done.
 */
export function judge(run) {
  const faults = [];
  const fault = (text) => faults.push(text);
  for (const part of [servers, promises, leaders, objectives, players, substance]) part(run, fault);
  return faults;
}
