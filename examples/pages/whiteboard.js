// A shared drawing. The server keeps each socket's colour and stamps it on what that socket draws.
// Tests read window.__greenroom.
"use strict";

const COLORS = ["#1d3557", "#e63946", "#2a9d8f", "#f4a261", "#7b2cbf", "#0077b6"];
const el = (id) => document.getElementById(id);
const canvas = el("canvas"), pen = canvas.getContext("2d");
const lines = []; // all that was seen, in fractions of the sheet, so that a resize can draw it again
let socket = null, server = null, endpoint = null, color = null, from = null, received = 0, sent = 0, told = 0;

// What tests read: plain values that can be cloned, and beside them functions that are not enumerated.
window.__greenroom = Object.defineProperties({
  get phase() { return socket?.connected ? "connected" : "connecting"; },
  get server() { return socket?.connected ? server : null; },
  get endpoint() { return endpoint; },
  get color() { return color; },
  get lines() { return lines; },
  get received() { return received; },
  get sent() { return sent; },
  get told() { return told; }, // how often the server was told a colour
}, {
  draw: { value: (x0, y0, x1, y1) => draw({ x0, y0, x1, y1 }) },
  setColor: { value: (next) => choose(next) },
});

function say(text, kind = "") {
  el("where").textContent = text;
  el("where").className = `chip ${kind}`;
}

// Asks which node to use, and asks again when that node is gone for good.
async function join() {
  let found;
  try {
    const answer = await fetch("/v1/fleets/whiteboard/endpoint");
    found = await answer.json();
    if (!answer.ok) throw new Error(found.error?.message ?? `the control plane answered ${answer.status}`);
  } catch (error) {
    say(`${error.message}; trying again`, "bad");
    setTimeout(join, 2000);
    return;
  }
  ({ server, endpoint } = found);
  let misses = 0;
  socket = io(found.url, { forceNew: true });
  socket.on("connect", () => { misses = 0; say(`on ${server}`, "good"); });
  socket.on("disconnect", () => say(`lost ${server}, coming back`, "bad"));
  socket.on("connect_error", () => {
    misses += 1;
    if (misses === 3) {
      socket.disconnect();
      join();
    }
  });
  // A node that knows us afresh has given us its colour; if we had chosen one, say so again.
  socket.on("init", (init) => (color === null ? choose(init.color, false) : choose(color)));
  socket.on("drawing", (line) => { received += 1; keep(line); });
}

function choose(next, tell = true) {
  color = next;
  if (tell) {
    socket?.emit("color", next);
    told += 1;
  }
  const all = COLORS.includes(next) ? COLORS : [...COLORS, next];
  el("colors").replaceChildren(...all.map((one) => {
    const button = document.createElement("button");
    button.style.background = one;
    button.className = one === color ? "on" : "";
    button.setAttribute("aria-label", `colour ${one}`);
    button.onclick = () => choose(one);
    return button;
  }));
}

function draw(line) {
  if (!socket?.connected) return;
  socket.emit("drawing", line);
  sent += 1;
  keep({ ...line, color });
}

function keep(line) {
  lines.push(line);
  if (lines.length > 20000) lines.shift();
  stroke(line);
}

function stroke({ x0, y0, x1, y1, color: ink }) {
  pen.strokeStyle = ink;
  pen.beginPath();
  pen.moveTo(x0 * canvas.width, y0 * canvas.height);
  pen.lineTo(x1 * canvas.width, y1 * canvas.height);
  pen.stroke();
}

function fit() {
  const sharp = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * sharp;
  canvas.height = canvas.clientHeight * sharp;
  pen.lineWidth = 3 * sharp;
  pen.lineCap = "round";
  lines.forEach(stroke);
}

const spot = (event) => {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
};
canvas.addEventListener("pointerdown", (event) => { from = spot(event); canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!from) return;
  const to = spot(event);
  if (Math.hypot(to.x - from.x, to.y - from.y) < 0.003) return;
  draw({ x0: from.x, y0: from.y, x1: to.x, y1: to.y });
  from = to;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { from = null; });
el("clear").onclick = () => { lines.length = 0; fit(); };
addEventListener("resize", fit);
choose(COLORS[0], false);
color = null;
fit();
join();
