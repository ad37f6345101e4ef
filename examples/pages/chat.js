// Guild chat: asks for the guild's room by key, enters it with the token.
// ?guild=Owls&name=Ann enters at once. Tests read window.__greenroom.
"use strict";

const el = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
let socket = null, found = null, name = null, lines = [], here = [];

// What tests read: plain values that can be cloned, and beside them a function that is not enumerated.
window.__greenroom = Object.defineProperties({
  get phase() { return socket?.connected ? "connected" : socket ? "connecting" : fault() ? "error" : "idle"; },
  get room() { return found?.room ?? null; },
  get server() { return found?.server ?? null; },
  get seat() { return found?.seats[0].seat ?? null; },
  get lines() { return lines; },
  get here() { return here; },
  get error() { return fault(); },
}, { say: { value: (text) => socket?.emit("say", text) } });

const fault = () => el("fault").textContent || null;

async function enter(guild, player) {
  el("fault").textContent = "";
  // Keys and player ids are visible ASCII without spaces; the API would say so too, this is quicker.
  const [key, id] = [`guild:${guild.trim().replaceAll(" ", "_")}`, player.trim().replaceAll(" ", "_")];
  if (!/^[!-~]+$/.test(key + id)) return fail("Please use plain letters, digits and signs.");
  try {
    const answer = await fetch("/v1/fleets/chat/rooms", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ key, players: [id] }),
    });
    const body = await answer.json();
    if (!answer.ok) return fail(body.error?.message ?? `The control plane answered ${answer.status}.`);
    found = body;
  } catch {
    return fail("The control plane does not answer. Is greenroom running?");
  }
  name = id;
  connect(guild);
}

function fail(text) {
  socket?.disconnect();
  socket = null;
  el("fault").textContent = text;
  el("door").hidden = false;
  el("inside").hidden = true;
  say("not connected");
}

function connect(guild) {
  const mine = (socket = io(found.url, { auth: { token: found.seats[0].token }, forceNew: true }));
  socket.on("connect", () => {
    el("title").textContent = guild;
    el("door").hidden = true;
    el("inside").hidden = false;
    el("text").focus();
    say(`${found.server} · ${found.room} · seat ${found.seats[0].seat}`, "good");
  });
  socket.on("connect_error", (error) => {
    if (socket !== mine) return;
    if (socket.active) say("connection lost, coming back", "bad");
    else fail(`The room refused: ${error.data?.message ?? error.message}`);
  });
  socket.on("disconnect", () => {
    if (socket !== mine) return;
    if (socket.active) say("connection lost, coming back", "bad");
    else fail("The room has ended. Enter again to open it anew.");
  });
  socket.on("greenroom:taken_over", () => fail("You have entered from elsewhere."));
  socket.on("history", (all) => { lines = all; el("lines").replaceChildren(...all.map(bubble)); toEnd(); });
  socket.on("line", (line) => { lines.push(line); el("lines").append(bubble(line)); toEnd(); });
  socket.on("here", (names) => {
    here = names;
    el("here").replaceChildren(...names.map((one) => {
      const row = document.createElement("div");
      row.textContent = one;
      return row;
    }));
  });
}

function bubble({ from, text }) {
  const [row, who, words] = ["div", "b", "span"].map((kind) => document.createElement(kind));
  who.textContent = from;
  words.textContent = text;
  row.className = from === name ? "line mine" : "line";
  row.append(who, words);
  return row;
}

function toEnd() {
  el("lines").scrollTop = el("lines").scrollHeight;
}

function say(text, kind = "") {
  el("where").textContent = text;
  el("where").className = `chip ${kind}`;
}

el("enter").addEventListener("submit", (event) => { event.preventDefault(); enter(el("guild").value, el("name").value); });
el("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = el("text").value.trim();
  if (text && socket?.connected) { socket.emit("say", text); el("text").value = ""; }
});
if (query.get("guild") && query.get("name")) enter(query.get("guild"), query.get("name"));
