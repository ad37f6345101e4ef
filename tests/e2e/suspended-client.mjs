// A member of a guild in a process of its own, which tells on its standard output what it hears: one JSON value a line.
import process from 'node:process';
import { io } from 'socket.io-client';

const [url, token] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const socket = io(url, { auth: { token, greenroom: { recovery: true } }, reconnectionDelay: 100, transports: ['websocket'] });
socket.on('connect', () => tell({ connect: socket.id, recovered: socket.recovered }));
socket.on('disconnect', (reason) => tell({ disconnect: reason }));
socket.on('line', ({ text }) => tell({ line: text }));
socket.on('history', (lines) => tell({ history: lines.map(({ text }) => text) }));
