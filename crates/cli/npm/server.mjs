// A plain Socket.IO server as a team would write it: lobby, matchmaking and rooms in one Node.js process. It answers the
// scenarios that ship with `greenroom swarm`, and the three questions of the HTTP API that players ask, so that the
// same players can be sent to it. Nothing of Greenroom runs here.
import { createServer } from "node:http";
import { Server } from "socket.io";

const MATCH_PLAYERS = Number(process.env.MATCH_PLAYERS ?? 4);
const RECOVERY = process.env.RECOVERY !== "off";
const HISTORY_LINES_MAX = 50;
const STATE_EVERY_MS = 50;

const waiting = []; // sockets that wait for a match
const rooms = new Map(); // id -> {seats: Map(player -> seat), lines, pilots: Map(player -> {x, y}), tick}
const keys = new Map(); // key -> id of its room
const strokes = [];
let matches = 0;

const endpoint = () => `127.0.0.1:${http.address().port}`;
const tokenOf = (room, player) => JSON.stringify([room, player]);

function roomOf(id) {
  if (!rooms.has(id)) rooms.set(id, { seats: new Map(), lines: [], pilots: new Map(), tick: 0 });
  return rooms.get(id);
}

function seatIn(id, player) {
  const { seats } = roomOf(id);
  if (!seats.has(player)) seats.set(player, seats.size);
  return seats.get(player);
}

const http = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const answer = (body) => {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(body));
  };
  const asked = /^\/v1\/fleets\/([^/]+)\/(endpoint|rooms)$/.exec(pathname);
  const place = { server: "npm", endpoint: endpoint(), url: `http://${endpoint()}` };
  const expires_at_ms = Date.now() + 30_000;
  if (asked?.[2] === "endpoint") return answer({ fleet: asked[1], ...place, expires_at_ms });
  if (asked?.[2] === "rooms") {
    let text = "";
    for await (const piece of request) text += piece;
    const { key, players } = JSON.parse(text);
    const created = !keys.has(key);
    const room = keys.get(key) ?? `room-${++matches}`;
    if (key) keys.set(key, room);
    const seats = players.map((player) => {
      return { player, seat: seatIn(room, player), token: tokenOf(room, player), expires_at_ms };
    });
    return answer({ fleet: asked[1], room, key, epoch: 1, ...place, created, seats });
  }
  response.statusCode = 404;
  answer({ error: { code: "not_found", message: `${pathname} is not served here` } });
});

const recovery = { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } };
const io = new Server(http, RECOVERY ? recovery : {});

function matched() {
  while (waiting.length >= MATCH_PLAYERS) {
    const members = waiting.splice(0, MATCH_PLAYERS);
    const room = `match-${++matches}`;
    for (const { socket, player } of members) {
      socket.emit("matched", {
        room,
        endpoint: endpoint(),
        url: `http://${endpoint()}`,
        token: tokenOf(room, player),
        player,
        seat: seatIn(room, player),
      });
    }
  }
}

function enterRoom(socket, token) {
  const [id, player] = JSON.parse(token);
  const room = roomOf(id);
  Object.assign(socket.data, { id, player });
  socket.join(id);
  // What was missed comes again by itself; a greeting is for newcomers.
  if (!socket.recovered) socket.emit("history", room.lines);
  socket.on("say", (text, ack) => {
    const line = { from: player, text };
    room.lines.push(line);
    if (room.lines.length > HISTORY_LINES_MAX) room.lines.shift();
    io.to(id).emit("line", line);
    if (typeof ack === "function") ack();
  });
  socket.on("steer", ({ x, y }) => room.pilots.set(player, { x, y }));
  socket.on("disconnect", () => room.pilots.delete(player));
}

io.on("connection", (socket) => {
  const { token } = socket.handshake.auth;
  if (token) enterRoom(socket, token);
  socket.on("match", ({ player }) => {
    waiting.push({ socket, player });
    matched();
  });
  socket.on("disconnect", () => {
    const at = waiting.findIndex((one) => one.socket === socket);
    if (at >= 0) waiting.splice(at, 1);
  });
  // The whiteboard.
  let color = "#000000";
  socket.on("color", (text) => {
    color = text;
  });
  socket.on("drawing", (stroke) => {
    const drawn = { ...stroke, color };
    strokes.push(drawn);
    if (strokes.length > 1000) strokes.shift();
    socket.broadcast.emit("drawing", drawn);
  });
  if (!token) socket.emit("init", strokes);
  // The relay.
  socket.on("echo", (payload, ack) => ack?.(payload));
  socket.on("all", (payload) => io.emit("all", payload));
});

// The state of rooms in which somebody steers, to all of them.
setInterval(() => {
  for (const [id, room] of rooms) {
    if (room.pilots.size > 0) {
      room.tick += 1;
      io.to(id).volatile.emit("state", { t: room.tick, pilots: Object.fromEntries(room.pilots) });
    }
  }
}, STATE_EVERY_MS);

http.listen(0, "127.0.0.1", () => console.log(`listening ${http.address().port}`));
