// One player's way through the system: lobby, ticket, room. The page's own player and its bots all use it.
// Never touches the page.
"use strict";

const PX = 16;    // positions come in 1/16 pixels
const TURN = 4096; // angles come in 1/4096 turns

async function api(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The control plane does not answer. Is greenroom running?");
  }
  const json = await answer.json().catch(() => null);
  if (!answer.ok) {
    throw new Error(json?.error?.message ?? `The control plane answered ${answer.status}.`);
  }
  return json;
}

class ArenaPlayer {
  // on: { phase(name, detail), event(name, argument) }
  constructor(name, on = {}) {
    this.name = name;
    this.on = on;
    this.phase = "idle";
    this.room = this.seat = this.server = this.endpoint = this.lobby = null;
    this.reset();
  }

  reset() {
    this.map = null;
    this.faces = new Map(); // seat -> { name, color }
    this.orbs = new Map();  // id -> { x, y, born }
    this.states = [];       // the last second, oldest first
    this.statesTotal = 0;
    this.standings = null;
    this.endsAt = 0;
    this.clockOffset = null;
  }

  enter(phase, detail = "") {
    this.phase = phase;
    this.on.phase?.(phase, detail);
  }

  // Goes the whole way. Errors become the phase "error" with words.
  async play() {
    this.leave();
    this.reset();
    const run = (this.run = Symbol());
    try {
      this.enter("lobby");
      const lobby = await api("/v1/fleets/lobby/endpoint");
      if (this.run !== run) return;
      this.lobby = lobby.server;
      const found = await this.match(lobby.url, run);
      if (this.run !== run) return;
      this.connect(found);
    } catch (error) {
      if (this.run === run) this.fail(error.message);
    }
  }

  fail(message) {
    this.leave();
    this.enter("error", message);
  }

  // Leaves whatever it is in. Harmless when it is in nothing.
  leave() {
    this.run = null;
    this.lobbySocket?.disconnect();
    this.socket?.disconnect();
    this.lobbySocket = this.socket = null;
  }

  // Emits `match` and waits for `matched`. Asks again after the lobby's node was replaced.
  match(url, run) {
    const socket = (this.lobbySocket = io(url, { forceNew: true }));
    let done = false;
    return new Promise((found, failed) => {
      socket.on("connect", () => {
        if (this.run !== run || done) return;
        this.enter("matching");
        socket.emit("match", { name: this.name }, (answer) => {
          if (answer?.error) failed(new Error(answer.error.message));
        });
      });
      socket.on("connect_error", () => {
        if (this.run === run && !done) this.enter("lobby", "The lobby does not answer, trying again.");
      });
      socket.on("match_failed", (error) => failed(new Error(error.message)));
      socket.on("matched", (match) => {
        if (this.run !== run || done) return;
        done = true;
        this.enter("connecting");
        found(match);
        // The lobby is left a little later, so that ten thousand matched players do not all hang up at once.
        setTimeout(() => socket.disconnect(), Math.random() * 2000);
      });
    });
  }

  connect({ room, server, endpoint, url, token, seat }) {
    Object.assign(this, { room, server, endpoint, seat });
    const socket = (this.socket = io(url, { auth: { token }, forceNew: true }));
    const current = () => this.socket === socket;
    socket.on("connect", () => socket.emit("name", this.name));
    socket.on("connect_error", (error) => {
      if (!current()) return;
      if (socket.active) this.on.event?.("lost");
      else this.fail(`The room refused: ${error.data?.message ?? error.message}`);
    });
    socket.on("disconnect", () => {
      if (!current()) return;
      if (this.phase === "podium") this.enter("over");
      else if (socket.active) this.on.event?.("lost");
      else this.fail("The room has ended.");
    });
    socket.onAny((event, argument) => {
      if (!current()) return;
      this.take(event, argument);
      this.on.event?.(event, argument);
    });
  }

  take(event, arg) {
    const now = performance.now();
    switch (event) {
      case "welcome":
        this.seat = arg.seat;
        this.hz = arg.hz;
        this.seats = arg.seats;
        this.map = { width: arg.map[0], height: arg.map[1], hub: arg.map[2], beam: arg.map[3], pillars: arg.pillars };
        this.faces = new Map(arg.players.map((face) => [face.seat, face]));
        this.orbs = new Map(arg.orbs.map(([id, x, y]) => [id, { x: x / PX, y: y / PX, born: 0 }]));
        break;
      case "player": this.faces.set(arg.seat, arg); break;
      case "gone": this.faces.delete(arg.seat); break;
      case "orb": this.orbs.set(arg[0], { x: arg[1] / PX, y: arg[2] / PX, born: now }); break;
      case "taken": this.orbs.delete(arg.orb); break;
      case "podium": this.standings = arg; break;
      case "phase":
        this.endsAt = now + (arg.ticks * 1000) / this.hz;
        this.enter(arg.phase);
        break;
      case "state": this.keep(arg, now); break;
      case "greenroom:taken_over": this.fail("You play on from another page."); break;
    }
  }

  keep(arg, now) {
    const at = (arg.t * 1000) / this.hz;
    // The offset follows the least delayed state: late ones must not shift the picture.
    const offset = now - at;
    const drift = 0.05;
    this.clockOffset = this.clockOffset === null ? offset : Math.min(offset, this.clockOffset + drift);
    const players = new Map(arg.p.map(([seat, x, y, score, bits]) => [seat, {
      x: x / PX, y: y / PX, score,
      dashing: !!(bits & 1), dazed: !!(bits & 2), safe: !!(bits & 4), away: !!(bits & 8),
    }]));
    const drones = arg.d.map(([x, y, there]) => ({ x: x / PX, y: y / PX, there: !!there }));
    this.states.push({ at, tick: arg.t, angle: arg.a, players, drones });
    while (this.states.length > 40) this.states.shift();
    this.statesTotal += 1;
  }

  get latest() {
    return this.states[this.states.length - 1] ?? null;
  }

  // -1 to 1 each way. Sends only what changed.
  steer(x, y) {
    const [sx, sy] = [Math.round(x * 127), Math.round(y * 127)];
    if (sx === this.sentX && sy === this.sentY && this.phase === this.sentIn) return;
    [this.sentX, this.sentY, this.sentIn] = [sx, sy, this.phase];
    if (this.socket?.connected) this.socket.emit("steer", { x: sx, y: sy });
  }

  dash() {
    if (this.phase === "play" && this.socket?.connected) this.socket.emit("dash");
  }

  concede() {
    if (this.socket?.connected) this.socket.emit("concede");
  }
}

// A player without a person: goes for the nearest orb, dashes at what is near, keeps off the beam.
class ArenaBot extends ArenaPlayer {
  constructor(name, on) {
    super(name, on);
    this.timer = setInterval(() => this.think(), 120);
    this.taste = Math.random() * Math.PI;
  }

  stop() {
    clearInterval(this.timer);
    this.leave();
  }

  think() {
    const state = this.latest, me = state?.players.get(this.seat);
    if (this.phase !== "play" || !me || !this.map) return;
    let [goal, best] = [null, Infinity];
    for (const orb of this.orbs.values()) {
      const far = Math.hypot(orb.x - me.x, orb.y - me.y);
      if (far < best) [goal, best] = [orb, far];
    }
    const prey = [...state.drones.filter((drone) => drone.there),
      ...[...state.players].filter(([seat, other]) => seat !== this.seat && !other.safe).map(([, other]) => other)];
    const near = prey.find((other) => Math.hypot(other.x - me.x, other.y - me.y) < 110);
    if (near && Math.random() < 0.35) goal = near;
    if (!goal) goal = { x: this.map.width / 2 + 300 * Math.cos(this.taste), y: this.map.height / 2 + 200 * Math.sin(this.taste) };
    let way = Math.atan2(goal.y - me.y, goal.x - me.x);
    const beam = this.beamGap(me, state.angle);
    if (beam < 70) way += Math.PI / 2.2;
    const wobble = (Math.random() - 0.5) * 0.5;
    this.steer(Math.cos(way + wobble), Math.sin(way + wobble));
    if ((near && goal === near) || (beam < 45 && Math.random() < 0.5)) this.dash();
  }

  beamGap(me, angle) {
    const turn = (angle / TURN) * 2 * Math.PI;
    const [x, y] = [me.x - this.map.width / 2, me.y - this.map.height / 2];
    const along = Math.abs(x * Math.cos(turn) + y * Math.sin(turn));
    return along > this.map.beam + 20 ? Infinity : Math.abs(x * Math.sin(turn) - y * Math.cos(turn));
  }
}
