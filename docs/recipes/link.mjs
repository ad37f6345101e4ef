// Tells Greenroom who sits where, from a gameserver in another language. Node.js, no packages; docs/own-server.md.
import net from 'node:net';

const { GREENROOM_LINK, GREENROOM_LINK_SECRET, GREENROOM_INSTANCE } = process.env;

/** `status()` gives `{connections, rooms: [{room, epoch, key, seats: [{seat, player, phase}]}]}`. */
export function link(status) {
  const ended = new Map(); // told again after every reconnect, until acknowledged
  let stream = null;
  const say = (message) => stream?.write(`${JSON.stringify(message)}\n`);
  const report = () => say({ type: 'status', ...status() });
  const hear = (message) => message.type === 'room_ended_ack' && ended.delete(`${message.room}.${message.epoch}`);

  const dial = () => {
    const [host, port] = GREENROOM_LINK.split(':');
    stream = net.connect(Number(port), host);
    let rest = '';
    stream.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop();
      for (const line of lines) hear(JSON.parse(line));
    });
    stream.on('error', () => {}); // the agent restarts: `close` follows
    stream.on('close', () => setTimeout(dial, 200));
    say({ type: 'hello', version: 1, instance: GREENROOM_INSTANCE, secret: GREENROOM_LINK_SECRET });
    report();
    for (const message of ended.values()) say(message);
  };
  dial();
  setInterval(report, 1000); // it is the heartbeat too: silence for 3 s means unhealthy

  return {
    report, // call it on every change
    roomEnded(room, epoch, result) {
      const message = { type: 'room_ended', room, epoch, reason: 'finished', result };
      ended.set(`${room}.${epoch}`, message);
      say(message);
      report();
    },
  };
}
