// A name server for one test: every name `ADDRESS-WITH-DASHES.zone` has that IPv6 address, as a wildcard zone of such names would.
import dgram from 'node:dgram';
import process from 'node:process';

const [AAAA, INTERNET] = [28, 1];

/** The question of a DNS message (RFC 1035, section 4.1): its labels, type, and where it ends. */
function question(message) {
  const labels = [];
  let at = 12;
  for (let length; (length = message[at]); at += length + 1) labels.push(message.toString('latin1', at + 1, at + 1 + length));
  return { labels, type: message.readUInt16BE(at + 1), end: at + 5 };
}

/** The sixteen bytes of an address such as `fd00:213::1`. */
function bytes(address) {
  const [head, tail = ''] = address.split('::').map((part) => part);
  const groups = (part) => part.split(':').filter(Boolean).map((group) => parseInt(group, 16));
  const [first, last] = [groups(head), groups(tail)];
  const all = [...first, ...Array(8 - first.length - last.length).fill(0), ...last];
  const out = Buffer.alloc(16);
  all.forEach((group, i) => out.writeUInt16BE(group, 2 * i));
  return out;
}

const socket = dgram.createSocket('udp6');
socket.on('message', (message, from) => {
  const { labels, type, end } = question(message);
  const head = Buffer.from(message.subarray(0, end));
  head.writeUInt16BE(0x8180, 2); // an answer, recursion was asked for and is there
  head.writeUInt16BE(type === AAAA ? 1 : 0, 6);
  head.fill(0, 8, 12);
  const fixed = Buffer.from([0xc0, 12, 0, AAAA, 0, INTERNET, 0, 0, 0, 60, 0, 16]);
  const answer = type === AAAA ? [fixed, bytes(labels[0].replaceAll('-', ':'))] : [];
  socket.send(Buffer.concat([head, ...answer]), from.port, from.address);
});
socket.bind(53, '::1', () => process.stdout.write('ready\n'));
