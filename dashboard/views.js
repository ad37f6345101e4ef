// How each part of the overview looks. Never fetches and keeps no state of the cluster.

import { age, at, clock, count, dress, follow, hint, make, say } from "./dom.js";

const TOTALS = [
  ["players", "players in seats"],
  ["rooms", "rooms"],
  ["gameservers", "game servers"],
  ["connections", "connections"],
  ["tickets", "tickets waiting"],
  ["results_pending", "results to deliver"],
];
const HISTORY = 60;
const CELLS_MAX = 40;
const TILES_MAX = 60;
const SVG = "http://www.w3.org/2000/svg";
const history = new Map(TOTALS.map(([name]) => [name, []]));

/** The row of whole numbers, each with its last minute as a line. */
export function totals(overview) {
  follow(at("totals"), TOTALS, ([name]) => name, makeTotal, (element, [name]) => {
    const value = overview.totals[name];
    const line = history.get(name);
    line.push(value);
    if (line.length > HISTORY) line.shift();
    say(element.number, count(value));
    const warn = name === "results_pending" && value > 0;
    dress(element, warn ? "total warn" : "total");
    const most = Math.max(1, ...line);
    const points = line.map((v, i) => `${(i + HISTORY - line.length) * (100 / (HISTORY - 1))},${38 - (v / most) * 34}`);
    const first = (HISTORY - line.length) * (100 / (HISTORY - 1));
    element.line.setAttribute("points", points.join(" "));
    element.fill.setAttribute("points", `${first},40 ${points.join(" ")} 100,40`);
  });
}

function makeTotal([, words]) {
  const element = make("div", "total");
  element.number = make("b");
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 100 40");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  element.fill = document.createElementNS(SVG, "polygon");
  element.line = document.createElementNS(SVG, "polyline");
  picture.append(element.fill, element.line);
  element.append(element.number, make("span", "", words), picture);
  return element;
}

/** The table of fleets. */
export function fleets(overview) {
  const short = overview.fleets.filter((fleet) => fleet.waiting_on.length > 0).length;
  say(at("fleets-note"), short === 0 ? `${overview.fleets.length}, all as wanted` : `${short} of ${overview.fleets.length} short of what they should have`);
  at("fleets-none").hidden = overview.fleets.length > 0;
  follow(at("fleet-rows"), overview.fleets, (fleet) => fleet.name, makeFleet, (row, fleet) => {
    hint(row.name, `revision ${fleet.revision}`);
    cells(row.strip, fleet);
    number(row.ready, fleet.ready);
    number(row.busy, fleet.busy);
    number(row.wanted, fleet.replicas_wanted);
    say(row.bounds, `${fleet.replicas_min}-${fleet.replicas_max}`);
    if (fleet.kind === "room") {
      number(row.rooms, fleet.rooms);
      hint(row.rooms, `${fleet.rooms_per_server} rooms a server, ${fleet.seats_per_room} seats a room`);
    } else say(row.rooms, "");
    number(row.players, fleet.players);
    number(row.tickets, fleet.tickets);
    say(row.waiting, fleet.waiting_on.join("; "));
  });
}

function makeFleet(fleet) {
  const row = make("tr");
  row.strip = make("div", "cells");
  row.name = make("td", "", make("b", "", fleet.name), make("span", `chip ${fleet.kind}`, fleet.kind));
  for (const name of ["ready", "busy", "wanted", "bounds", "rooms", "players", "tickets"]) row[name] = make("td", "n");
  row.bounds.className = "n dim";
  row.waiting = make("td", "wide");
  row.append(row.name, make("td", "", row.strip), row.ready, row.busy, row.wanted, row.bounds, row.rooms, row.players, row.tickets, row.waiting);
  return row;
}

function number(cell, value) {
  say(cell, count(value));
  cell.classList.toggle("zero", value === 0);
}

/** One cell a server: busy, ready, rising, or missing. Many servers share a cell. */
function cells(parent, fleet) {
  const whole = Math.max(fleet.replicas, fleet.replicas_wanted);
  const scale = Math.max(1, whole / CELLS_MAX);
  const upTo = (n) => Math.round(n / scale);
  const words = [];
  for (let i = 0; i < upTo(whole); i += 1) {
    if (i < upTo(Math.min(fleet.busy, fleet.ready))) words.push("busy");
    else if (i < upTo(fleet.ready)) words.push("ready");
    else if (i < upTo(fleet.replicas)) words.push("rising");
    else words.push("missing");
  }
  const items = words.map((word, i) => ({ word, i }));
  follow(parent, items, (cell) => cell.i, () => make("i"), (element, cell) => dress(element, cell.word));
  hint(parent, `${fleet.ready} ready (${fleet.busy} busy), ${fleet.replicas - fleet.ready} not ready, ${fleet.replicas_wanted} wanted`);
}

/** The line of hosts under the fleets. */
export function hosts(overview) {
  follow(at("hosts"), overview.hosts, (host) => host.name, makeHost, (element, host) => {
    dress(element, host.connected ? "host up" : "host");
    say(element.words, `${count(host.servers)} of ${count(host.servers_max)} servers`);
    element.filled.style.setProperty("--part", String(host.servers_max ? host.servers / host.servers_max : 0));
    say(element.heard, host.connected ? "" : `silent for ${age(overview.now_ms, host.heard_at_ms)}`);
  });
}

function makeHost(host) {
  const element = make("span", "host");
  element.words = make("span");
  element.filled = make("i");
  element.heard = make("span");
  element.append(make("span", "", "host ", make("b", "", host.name)), make("span", "gauge", element.filled), element.words, element.heard);
  return element;
}

/** Cards of game servers with a tile for each room. */
export function servers(list, rooms, now) {
  const roomsOf = new Map();
  for (const room of rooms) {
    if (room.phase === "ended") continue;
    if (!roomsOf.has(room.server)) roomsOf.set(room.server, []);
    roomsOf.get(room.server).push(room);
  }
  follow(at("server-cards"), list, (server) => server.name, makeServer, (card, server) => {
    card.dataset.state = server.state;
    say(card.state, server.state);
    say(card.endpoint, server.endpoint || "no port yet");
    say(card.load, load(server));
    say(card.age, server.restarts > 0 ? `\u21bb${server.restarts} ${age(now, server.started_at_ms)}` : age(now, server.started_at_ms));
    say(card.message, server.message);
    hint(card.message, server.message);
    hint(card, `instance ${server.instance}\nrevision ${server.revision}\nhost ${server.host}${server.pid ? `\npid ${server.pid}` : ""}`);
    tiles(card.tiles, roomsOf.get(server.name) ?? [], server);
  });
}

function load(server) {
  const one = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
  if (server.rooms > 0) return `${one(server.rooms, "room")}, ${one(server.players, "player")}`;
  return one(server.connections, "connection");
}

function makeServer(server) {
  const card = make("article", "server");
  card.state = make("span", "state");
  card.endpoint = make("span");
  card.load = make("span");
  card.age = make("span");
  card.message = make("div", "message");
  card.tiles = make("div", "tiles");
  card.append(
    make("header", "", make("b", "", server.name), card.state),
    make("div", "facts", card.endpoint, card.load, card.age),
    card.message,
    card.tiles,
  );
  return card;
}

/** A tile a room with a dot a seat; without rooms of ours, a dot a connection. */
function tiles(parent, rooms, server) {
  const shown = rooms.slice(0, TILES_MAX).map((room) => ({ id: room.room, room }));
  if (server.rooms > shown.length) shown.push({ id: "more", more: server.rooms - shown.length });
  if (server.rooms === 0 && server.connections > 0) shown.push({ id: "crowd", crowd: server.connections });
  follow(parent, shown, (item) => item.id, (item) => make("span", item.more ? "swarm" : "tile"), (tile, item) => {
    if (item.more) return say(tile, `+${count(item.more)}`);
    if (item.crowd) {
      const dots = Array.from({ length: Math.min(item.crowd, 120) }, (_, seat) => ({ seat, state: "connected" }));
      tile.style.setProperty("--across", String(Math.min(24, dots.length)));
      return seats(tile, dots);
    }
    const { room } = item;
    dress(tile, `tile ${room.phase}`);
    tile.style.setProperty("--across", String(Math.max(2, Math.ceil(Math.sqrt(room.seats.length)))));
    hint(tile, `${room.key ?? room.room}: ${players(room).join(", ") || "nobody yet"}`);
    return seats(tile, room.seats);
  });
}

function seats(parent, list) {
  follow(parent, list, (seat) => seat.seat, () => make("i", "seat"), (dot, seat) => {
    dress(dot, `seat ${seat.state}`);
    hint(dot, seat.player ? `${seat.player} (${seat.state})` : "");
  });
}

const players = (room) => room.seats.filter((seat) => seat.player).map((seat) => seat.player);

/** One page of the table of rooms. */
export function rooms(list, now) {
  follow(at("room-rows"), list, (room) => `${room.room}.${room.epoch}`, makeRoom, (row, room) => {
    const lost = room.ended === "server_lost" || room.ended === "host_lost" || room.ended === "crashed";
    dress(row.phase, `phase ${lost ? "lost" : room.phase}`);
    say(row.phase, room.ended ? room.ended.replaceAll("_", " ") : room.phase);
    seats(row.seats, room.seats);
    say(row.players, players(room).join(", "));
    hint(row.players, players(room).join(", "));
    say(row.age, age(now, room.created_at_ms));
  });
}

function makeRoom(room) {
  const row = make("tr");
  const name = make("b", "mono", room.key ?? room.room);
  name.title = room.room;
  row.phase = make("span");
  row.seats = make("div", "seats");
  row.players = make("td", "players");
  row.age = make("td", "n dim");
  row.append(
    make("td", "", name),
    make("td", "", room.fleet),
    make("td", "mono dim", room.server),
    make("td", "", row.phase),
    make("td", "", row.seats),
    row.players,
    row.age,
  );
  return row;
}

/** The last changes, newest first. */
export function events(overview) {
  at("events-none").hidden = overview.events.length > 0;
  const seen = new Map();
  const items = overview.events.map((event) => {
    const base = `${event.at_ms} ${event.text}`;
    const nth = seen.get(base) ?? 0;
    seen.set(base, nth + 1);
    return { key: `${base} ${nth}`, event };
  });
  follow(at("event-lines"), items, (item) => item.key, ({ event }) => {
    const bad = /lost|died|crash|unhealthy|refused|failed/i.test(event.text);
    return make("li", bad ? "bad" : "", make("time", "", clock(event.at_ms)), make("span", "", event.text));
  }, () => {});
}

/** Links to the examples that this control plane serves. */
export function play(pages) {
  at("play").hidden = pages.length === 0;
  follow(at("play"), pages, (page) => page.path, (page) => {
    const link = make("a", "", make("span", "", make("b", "", page.title), make("small", "", page.words)));
    link.href = page.path;
    link.target = "_blank";
    return link;
  }, () => {});
}

/** `from-to of total` with two buttons; hidden when one page is all. */
export function pager(parent, { offset, shown, total, size }, turn) {
  if (!parent.words) {
    const button = (text, words, step) => {
      const element = make("button", "", text);
      element.type = "button";
      element.ariaLabel = words;
      element.addEventListener("click", () => parent.turn(step));
      return element;
    };
    parent.words = make("span");
    parent.back = button("\u2190", "Previous page", -1);
    parent.next = button("\u2192", "Next page", 1);
    parent.append(parent.words, parent.back, parent.next);
  }
  parent.turn = turn;
  parent.hidden = total <= size && offset === 0;
  say(parent.words, total === 0 ? "0" : `${count(offset + 1)}-${count(offset + shown)} of ${count(total)}`);
  parent.back.disabled = offset === 0;
  parent.next.disabled = offset + shown >= total;
}
