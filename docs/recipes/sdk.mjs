// Speaks with this host's agent from a gameserver in Node.js, no packages; docs/sdk.md.
import { setInterval } from 'node:timers';

const base = process.env.GREENROOM_SDK_URL;

/** One call; fails with the agent's own words. */
async function call(method, path, body) {
  const answer = await fetch(base + path, { method, body: body && JSON.stringify(body), signal: AbortSignal.timeout(5_000) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  return told;
}

/** Each line of a watch, as long as the caller reads; ends with the process or the agent, then watch again. */
async function* watch(path) {
  const answer = await fetch(base + path);
  if (!answer.ok) throw new Error((await answer.json()).message);
  let rest = '';
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line).result;
  }
}

export const sdk = {
  ready: () => call('POST', '/ready'),
  health: () => call('POST', '/health'),
  shutdown: () => call('POST', '/shutdown'),
  gameserver: () => call('GET', '/gameserver'),
  watchGameserver: () => watch('/watch/gameserver'),
  setLabel: (key, value) => call('PUT', '/metadata/label', { key, value }),
  status: (status) => call('PUT', '/greenroom/v1/status', status),
  roomEnded: (room, epoch, result) => call('POST', `/greenroom/v1/rooms/${encodeURIComponent(room)}/ended`, { epoch, result }),
  peers: (fleet) => call('GET', `/greenroom/v1/peers${fleet ? `?fleet=${fleet}` : ''}`),
  watchPeers: (fleet) => watch(`/greenroom/v1/peers/watch${fleet ? `?fleet=${fleet}` : ''}`),
  keys: () => call('GET', '/greenroom/v1/keys'),
  /** Says every second that it lives, and `status()` where one is given; an agent that restarts is told the next time. */
  keepTelling: (status) => setInterval(() => (status ? sdk.status(status()) : sdk.health()).catch(() => {}), 1_000),
};
