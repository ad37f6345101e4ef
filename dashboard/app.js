// The page's one loop: asks the control plane each second, shows the answer, says when there is none.
// Never changes anything in the cluster.

import { at, say } from "./dom.js";
import * as views from "./views.js";

const PERIOD_MS = 1000;
const TIMEOUT_MS = 4000;
const ROOMS_PAGE = 25;
const SERVERS_PAGE = 24;
const TOKEN = "greenroom-token";

const view = { overview: null, rooms: null, roomsOffset: 0, serversOffset: 0, filter: "", failures: 0, lostAt: 0, declined: false };

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { accept: "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), headers, cache: "no-store" });
  if (answer.status === 401 && haveToken(token)) return ask(path);
  if (!answer.ok) throw new Error(`the control plane answered ${answer.status}`);
  return answer.json();
}

/** Asks the person for a token, unless another call just did; whether there is one to try that was not refused. */
function haveToken(refused) {
  if (sessionStorage.getItem(TOKEN) === refused && !view.declined) {
    const typed = prompt("This control plane asks for a token. One with the role read is enough; it is kept until this tab is closed.");
    if (typed?.trim()) sessionStorage.setItem(TOKEN, typed.trim());
    else view.declined = true;
  }
  return sessionStorage.getItem(TOKEN) !== refused;
}

async function refresh() {
  let answers;
  try {
    answers = await Promise.all([
      ask("/v1/overview"),
      ask(`/v1/rooms?limit=${ROOMS_PAGE}&offset=${view.roomsOffset}`),
    ]);
  } catch (error) {
    view.failures += 1;
    if (view.failures === 1) view.lostAt = Date.now();
    return lost(error);
  }
  const [overview, rooms] = answers;
  Object.assign(view, { overview, rooms, failures: 0 });
  if (rooms.rooms.length === 0 && view.roomsOffset > 0) {
    view.roomsOffset = Math.max(0, Math.floor((rooms.total - 1) / ROOMS_PAGE) * ROOMS_PAGE);
  }
  return show();
}

/** A loop that never overlaps itself and rests while nobody looks. */
async function run() {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) await refresh();
    const rest = Math.max(100, PERIOD_MS - (performance.now() - began));
    await new Promise((wake) => { setTimeout(wake, rest); });
  }
}

function lost(error) {
  const seconds = Math.round((Date.now() - view.lostAt) / 1000);
  at("link").dataset.state = "lost";
  say(at("link"), "connection lost");
  at("lost").hidden = false;
  const why = error.name === "TimeoutError" ? "no answer" : error.message;
  say(at("lost"), `Connection lost, retrying (${seconds} s, ${why}). Running rooms go on without the control plane; what is shown is from before.`);
  document.body.classList.add("stale");
}

function show() {
  const { overview } = view;
  at("link").dataset.state = "live";
  say(at("link"), "live");
  at("lost").hidden = true;
  document.body.classList.remove("stale");
  document.title = `${overview.totals.players} players, ${overview.totals.rooms} rooms - Greenroom`;
  views.totals(overview);
  views.fleets(overview);
  views.hosts(overview);
  views.events(overview);
  showServers();
  showRooms();
  say(at("foot"), `term ${overview.term}, updated ${new Date(overview.now_ms).toLocaleTimeString("en-GB")}`);
}

const holds = (...texts) => texts.some((text) => text && text.toLowerCase().includes(view.filter));

function showServers() {
  const { overview } = view;
  const all = overview.gameservers.filter((s) => holds(s.name, s.fleet, s.host, s.endpoint, s.state));
  view.serversOffset = Math.min(view.serversOffset, Math.max(0, Math.floor((all.length - 1) / SERVERS_PAGE) * SERVERS_PAGE));
  const page = all.slice(view.serversOffset, view.serversOffset + SERVERS_PAGE);
  views.servers(page, overview.rooms, overview.now_ms);
  const capped = overview.gameservers.length < overview.totals.gameservers;
  say(at("servers-note"), view.filter ? `${all.length} match` : capped ? `the first ${overview.gameservers.length} of ${overview.totals.gameservers}` : "");
  say(at("servers-none"), view.filter ? "No server matches the filter." : "Nothing runs.");
  at("servers-none").hidden = page.length > 0;
  views.pager(at("servers-pager"), { offset: view.serversOffset, shown: page.length, total: all.length, size: SERVERS_PAGE }, turnServers);
}

/** Without a filter the control plane pages; with one, what the overview holds is searched. */
function showRooms() {
  const { overview, rooms } = view;
  const found = view.filter
    ? overview.rooms.filter((r) => holds(r.room, r.key, r.fleet, r.server, ...r.seats.map((seat) => seat.player)))
    : rooms.rooms;
  const page = found.slice(0, ROOMS_PAGE);
  views.rooms(page, overview.now_ms);
  say(at("rooms-note"), view.filter ? `${found.length} match${found.length > page.length ? `, the first ${page.length} shown` : ""}` : "");
  at("rooms-none").hidden = page.length > 0;
  say(at("rooms-none"), view.filter ? "No room matches the filter." : "No rooms. The first one appears as soon as somebody is matched or asks by key.");
  const total = view.filter ? page.length : rooms.total;
  const offset = view.filter ? 0 : view.roomsOffset;
  views.pager(at("rooms-pager"), { offset, shown: page.length, total, size: ROOMS_PAGE }, turnRooms);
}

function turnRooms(step) {
  const wanted = view.roomsOffset + step * ROOMS_PAGE;
  if (!view.rooms || view.filter || wanted < 0 || wanted >= view.rooms.total) return;
  view.roomsOffset = wanted;
  refresh();
}

function turnServers(step) {
  if (!view.overview) return;
  view.serversOffset = Math.max(0, view.serversOffset + step * SERVERS_PAGE);
  showServers();
}

function setFilter(text) {
  view.filter = text.trim().toLowerCase();
  view.serversOffset = 0;
  if (view.overview) {
    showServers();
    showRooms();
  }
}

at("filter").addEventListener("input", (event) => setFilter(event.target.value));
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    at("filter").value = "";
    at("filter").blur();
    setFilter("");
  } else if (typing) {
    return;
  } else if (event.key === "/") {
    at("filter").focus();
  } else if (["1", "2", "3", "4"].includes(event.key)) {
    const section = at(["fleets", "servers", "rooms", "events"][Number(event.key) - 1]);
    section.scrollIntoView({ block: "start" });
    section.focus({ preventScroll: true });
  } else if (event.key === "n" || event.key === "p") {
    const step = event.key === "n" ? 1 : -1;
    if (document.activeElement === at("servers")) turnServers(step);
    else turnRooms(step);
  } else {
    return;
  }
  event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

/** Links to the example pages, where the control plane serves any. */
async function findExamples() {
  try {
    views.play(await ask("/dashboard/pages.json"));
  } catch {
    views.play([]);
  }
}

findExamples();
run();
