// The arena's page: words, buttons, keys and touch around one ArenaPlayer and its bots.
// ?name=Ann&autoplay=1&bots=3 plays at once. Tests read window.__greenroom.
"use strict";

const BOT_NAMES = ["Rusty", "Pixel", "Turbo", "Comet", "Biscuit", "Nova"];
const SEATS = 4; // what the matchmaker puts together
const el = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const picture = new ArenaPicture(el("canvas"), el("stage"));
const bots = [];
let lost = false;

const me = new ArenaPlayer("", {
  phase: show,
  event(event, argument) {
    lost = event === "lost" || (lost && event !== "welcome");
    picture.react(me, event, argument);
    if (event !== "state") refresh();
  },
});

// What tests read: plain values that can be cloned, and beside them functions that are not enumerated.
window.__greenroom = Object.defineProperties({
  get phase() { return me.phase === "play" ? "playing" : me.phase; },
  get room() { return me.room; },
  get seat() { return me.seat; },
  get server() { return me.server; },
  get endpoint() { return me.endpoint; },
  get lobby() { return me.lobby; },
  get tick() { return me.latest?.tick ?? 0; },
  get states() { return me.statesTotal; },
  get error() { return me.phase === "error" ? el("text").textContent : null; },
  get standings() { return me.standings; },
  get transport() { return me.socket?.io.engine?.transport.name ?? null; },
  get players() {
    return [...(me.latest?.players ?? [])].map(([seat, body]) =>
      ({ seat, ...body, name: me.faces.get(seat)?.name ?? "" }));
  },
  get bots() { return bots.map((bot) => ({ name: bot.name, phase: bot.phase, room: bot.room, seat: bot.seat })); },
}, Object.fromEntries(Object.entries({
  play: (name) => begin(name),
  addBots: (count) => addBots(count),
  steer: (x, y) => { held = { x, y }; },
  dash: () => me.dash(),
  concede: () => [me, ...bots].forEach((player) => player.concede()),
}).map(([name, value]) => [name, { value }])));

const WORDS = {
  idle: ["Arena", "Gather orbs. Dash into drones and rivals. Mind the beam: only a dash gets through."],
  lobby: ["Finding a lobby", "Asking the control plane where the least busy one is."],
  matching: ["Waiting for players", "The matchmaker puts four together."],
  connecting: ["Match found", "Connecting to the room."],
  waiting: ["In the room", "Waiting until everybody has arrived."],
  countdown: ["Get ready", "Orbs are points. A dash pops drones for three more."],
  play: ["", ""],
  podium: ["Round over", ""],
  over: ["Round over", "The room has closed."],
  error: ["That did not work", ""],
};

function show(phase, detail) {
  const [title, text] = WORDS[phase];
  el("title").textContent = title;
  el("text").textContent = detail || text;
  el("text").className = phase === "error" ? "bad" : "dim";
  el("overlay").hidden = phase === "play";
  el("overlay").style.background = phase === "countdown" ? "none" : "";
  el("start").hidden = !["idle", "error", "over", "podium"].includes(phase);
  el("play").textContent = phase === "idle" ? "Play" : phase === "error" ? "Try again" : "Play again";
  el("wait").hidden = !["lobby", "matching"].includes(phase);
  el("bots").disabled = botsWait();
  el("seats").hidden = !["matching", "waiting"].includes(phase);
  if (phase === "play") el("canvas").focus();
  refresh();
}

const botsWait = () => bots.some((bot) => ["lobby", "matching"].includes(bot.phase));

// The parts that follow the room's news.
function refresh() {
  el("where").textContent = lost ? "connection lost, coming back"
    : me.room ? `${me.server} · ${me.room} · seat ${me.seat}` : me.lobby ? `lobby ${me.lobby}` : "not connected";
  el("where").className = `chip ${lost ? "bad" : me.room ? "good" : ""}`;
  if (me.phase === "waiting") seats(me.faces.size, me.seats ?? SEATS);
  const list = el("podium");
  list.hidden = !(me.standings && ["podium", "over"].includes(me.phase));
  if (me.standings && !list.hidden) {
    list.replaceChildren(...me.standings.map(({ place, seat, name, score }) =>
      entry("li", `${place}. ${name}`, score, me.faces.get(seat)?.color, seat === me.seat)));
    const mine = me.standings.find(({ seat }) => seat === me.seat);
    if (mine?.place === 1 && me.phase === "podium") el("title").textContent = "You win!";
  }
}

function entry(tag, name, score, color, mine) {
  const [row, dot, words, points] = [tag, "i", "span", "b"].map((kind) => document.createElement(kind));
  dot.className = "dot";
  dot.style.background = color ?? "#888";
  words.textContent = name;
  points.textContent = score;
  row.className = mine ? "me" : "";
  row.append(dot, words, points);
  return row;
}

function seats(taken, all) {
  el("seats").replaceChildren(...Array.from({ length: all }, (_, nth) => {
    const light = document.createElement("i");
    light.className = nth < taken ? "on" : "";
    return light;
  }));
  el("text").textContent = `${WORDS[me.phase][1]} ${Math.min(taken, all)}/${all}`;
}

// Four times a second: who leads, and how long the queue is while waiting.
let board = "";
setInterval(() => {
  const rows = [...(me.latest?.players ?? [])].sort(([, a], [, b]) => b.score - a.score);
  const now = JSON.stringify([me.phase, rows.map(([seat, { score }]) => [seat, score, me.faces.get(seat)?.name])]);
  if (now !== board) {
    board = now;
    const shown = ["play", "countdown"].includes(me.phase) ? rows : [];
    el("board").replaceChildren(...shown.map(([seat, { score }]) =>
      entry("div", me.faces.get(seat)?.name ?? "", score, me.faces.get(seat)?.color, seat === me.seat)));
  }
}, 250);

setInterval(async () => {
  if (me.phase !== "matching") return;
  const answer = await api("/v1/fleets").catch(() => null);
  const tickets = answer?.fleets?.find(({ name }) => name === "arena")?.tickets;
  // Our own ticket counts, also in the moment before the lobby has filed it.
  if (me.phase === "matching" && tickets !== undefined) seats(Math.max(1, Math.min(tickets, SEATS)), SEATS);
}, 700);

function begin(name) {
  me.name = (name || el("name").value.trim() || `Guest ${1 + Math.floor(Math.random() * 99)}`).slice(0, 16);
  el("name").value = me.name;
  me.room = me.seat = me.server = null;
  lost = false;
  seats(1, SEATS);
  const again = bots.splice(0);
  for (const bot of again) bot.stop();
  const way = me.play();
  if (again.length) addBots(again.length);
  return way;
}

// Bots are players like any other: each asks for a lobby, gets a ticket and its own token.
function addBots(count = SEATS - 1) {
  const names = [...BOT_NAMES].sort(() => Math.random() - 0.5);
  for (let n = 0; n < count; n += 1) {
    const bot = new ArenaBot(names[n % names.length], {
      phase: () => { el("bots").disabled = botsWait(); },
    });
    bots.push(bot);
    bot.play();
  }
}

el("start").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
el("bots").addEventListener("click", () => addBots());
el("tab").addEventListener("click", () => window.open(`/play/arena?autoplay=1&name=Guest+${Math.floor(Math.random() * 99)}`));
el("cancel").addEventListener("click", () => {
  for (const player of [me, ...bots.splice(0)]) (player.stop ?? player.leave).call(player);
  me.enter("idle");
});

// Keys, and a stick under the thumb.
const WAYS = {
  KeyW: [0, -1], ArrowUp: [0, -1], KeyS: [0, 1], ArrowDown: [0, 1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0], KeyD: [1, 0], ArrowRight: [1, 0],
};
const keys = new Set();
let stick = null, held = null;
addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  if (event.code === "Space" && !el("overlay").hidden && me.phase !== "countdown") return;
  if (event.code === "Space" && !event.repeat) me.dash();
  if (WAYS[event.code]) { keys.add(event.code); held = null; }
  if (WAYS[event.code] || event.code === "Space") event.preventDefault();
});
addEventListener("keyup", (event) => keys.delete(event.code));
addEventListener("blur", () => keys.clear());
el("stage").addEventListener("pointerdown", (event) => {
  if (me.phase !== "play") return;
  if (event.clientX > innerWidth / 2 || event.pointerType === "mouse") me.dash();
  else stick = { id: event.pointerId, x: event.clientX, y: event.clientY, dx: 0, dy: 0 };
});
addEventListener("pointermove", (event) => {
  if (stick?.id !== event.pointerId) return;
  const [dx, dy] = [event.clientX - stick.x, event.clientY - stick.y];
  const far = Math.max(60, Math.hypot(dx, dy));
  Object.assign(stick, { dx: dx / far, dy: dy / far });
});
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, (event) => { if (stick?.id === event.pointerId) stick = null; });
}

function steer() {
  let [x, y] = [0, 0];
  for (const code of keys) { x += WAYS[code][0]; y += WAYS[code][1]; }
  const far = Math.hypot(x, y);
  if (far > 0) me.steer(x / far, y / far);
  else if (stick) me.steer(stick.dx, stick.dy);
  else me.steer(held?.x ?? 0, held?.y ?? 0);
}
// Apart from drawing: a tab in the background draws nothing but must still let go of its keys.
setInterval(() => { if (["play", "countdown"].includes(me.phase)) steer(); }, 33);

(function frame() {
  picture.draw(me);
  const left = Math.max(0, Math.ceil((me.endsAt - performance.now()) / 1000));
  el("clock").textContent = me.phase === "play" ? left : "";
  if (me.phase === "countdown") el("title").textContent = left || "Go";
  requestAnimationFrame(frame);
})();

el("name").value = query.get("name") ?? "";
show("idle");
if (query.get("autoplay")) begin(query.get("name"));
if (query.get("bots")) addBots(Math.min(12, Number(query.get("bots")) || 0));
