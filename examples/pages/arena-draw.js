// Draws an ArenaPlayer's view of its room. Never changes it: all truth comes from the room's states.
"use strict";

const DELAY_MS = 70; // drawn this far in the past, so that two states are there to draw between

class ArenaPicture {
  constructor(canvas, stage) {
    this.canvas = canvas;
    this.stage = stage;
    this.pen = canvas.getContext("2d");
    this.sparks = [];
    this.rings = [];
    this.trails = new Map();
    this.shake = 0;
  }

  fit(map) {
    const { clientWidth, clientHeight } = this.stage;
    const scale = Math.min((clientWidth - 20) / map.width, (clientHeight - 20) / map.height);
    const sharp = window.devicePixelRatio || 1;
    const [width, height] = [Math.max(1, Math.floor(map.width * scale)), Math.max(1, Math.floor(map.height * scale))];
    if (this.canvas.width !== Math.floor(width * sharp) || this.canvas.height !== Math.floor(height * sharp)) {
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      this.canvas.width = Math.floor(width * sharp);
      this.canvas.height = Math.floor(height * sharp);
    }
    this.scale = scale * sharp;
  }

  // What is seen at this moment: between the two states around it.
  view(player) {
    const { states } = player;
    if (!states.length) return null;
    const at = performance.now() - player.clockOffset - DELAY_MS;
    let next = states.findIndex((state) => state.at >= at);
    if (next === -1) next = states.length - 1;
    const [a, b] = [states[Math.max(0, next - 1)], states[next]];
    const part = b.at > a.at ? Math.min(1, Math.max(0, (at - a.at) / (b.at - a.at))) : 1;
    const mix = (from, to) => from + (to - from) * part;
    const players = new Map([...b.players].map(([seat, to]) => {
      const from = a.players.get(seat) ?? to;
      return [seat, { ...to, x: mix(from.x, to.x), y: mix(from.y, to.y) }];
    }));
    const drones = b.drones.map((to, nth) => {
      const from = a.drones[nth] ?? to;
      const jumped = !from.there || !to.there || Math.hypot(to.x - from.x, to.y - from.y) > 60;
      return jumped ? to : { ...to, x: mix(from.x, to.x), y: mix(from.y, to.y) };
    });
    const turned = ((b.angle - a.angle + TURN * 1.5) % TURN) - TURN / 2;
    return { players, drones, angle: ((a.angle + turned * part) / TURN) * 2 * Math.PI };
  }

  burst(x, y, color, count, speed = 4) {
    for (let n = 0; n < count && this.sparks.length < 400; n += 1) {
      const [way, force] = [Math.random() * 2 * Math.PI, (0.3 + Math.random()) * speed];
      this.sparks.push({ x, y, dx: Math.cos(way) * force, dy: Math.sin(way) * force, life: 1, color });
    }
    this.rings.push({ x, y, life: 1, color });
  }

  // A room's event, told by sparks.
  react(player, event, arg) {
    const seen = player.latest;
    const face = (seat) => player.faces.get(seat)?.color ?? "#fff";
    const at = (seat) => seen?.players.get(seat);
    if (event === "taken" && at(arg.seat)) this.burst(at(arg.seat).x, at(arg.seat).y, "#ffe08a", 6, 2.5);
    if (event === "pop" && at(arg.seat)) this.burst(at(arg.seat).x, at(arg.seat).y, "#ff8a5c", 26, 6);
    if (event === "hit" && at(arg.seat)) {
      this.burst(at(arg.seat).x, at(arg.seat).y, face(arg.seat), 30, 6);
      if (arg.seat === player.seat) this.shake = 12;
    }
  }

  draw(player) {
    const map = player.map ?? { width: 1280, height: 800, hub: 46, beam: 470, pillars: [] };
    this.fit(map);
    const { pen } = this;
    const now = performance.now();
    this.shake *= 0.86;
    const shift = () => (Math.random() - 0.5) * this.shake * this.scale;
    pen.setTransform(this.scale, 0, 0, this.scale, shift(), shift());
    this.floor(map);
    const view = player.map && this.view(player);
    if (view) {
      this.orbs(player, now);
      this.beam(map, view.angle, player.phase === "play", now);
      for (const drone of view.drones) if (drone.there) this.drone(drone, now);
      for (const [seat, body] of view.players) this.body(seat, body, player.faces.get(seat), seat === player.seat, now);
    }
    this.effects();
  }

  floor(map) {
    const { pen } = this;
    pen.fillStyle = "#0f1520";
    pen.fillRect(-20, -20, map.width + 40, map.height + 40);
    pen.strokeStyle = "#172031";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let x = 40; x < map.width; x += 40) { pen.moveTo(x, 0); pen.lineTo(x, map.height); }
    for (let y = 40; y < map.height; y += 40) { pen.moveTo(0, y); pen.lineTo(map.width, y); }
    pen.stroke();
    pen.strokeStyle = "#2c3a52";
    pen.lineWidth = 6;
    pen.strokeRect(3, 3, map.width - 6, map.height - 6);
    for (const [x, y, radius] of map.pillars) this.disc(x, y, radius, "#1d2940", "#34476a");
    this.disc(map.width / 2, map.height / 2, map.hub, "#2a1620", "#ff5d73");
  }

  disc(x, y, radius, fill, edge, wide = 3) {
    const { pen } = this;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = fill;
    pen.fill();
    if (edge) { pen.strokeStyle = edge; pen.lineWidth = wide; pen.stroke(); }
  }

  orbs(player, now) {
    const { pen } = this;
    pen.shadowColor = "#ffd166";
    pen.shadowBlur = 14;
    for (const orb of player.orbs.values()) {
      const grown = Math.min(1, (now - orb.born) / 250);
      this.disc(orb.x, orb.y, (7 + Math.sin(now / 180 + orb.x)) * grown, "#ffe08a");
    }
    pen.shadowBlur = 0;
  }

  beam(map, angle, hot, now) {
    const { pen } = this;
    pen.save();
    pen.translate(map.width / 2, map.height / 2);
    pen.rotate(angle);
    pen.globalAlpha = hot ? 1 : 0.25;
    pen.shadowColor = "#ff2d55";
    pen.shadowBlur = hot ? 26 : 0;
    pen.fillStyle = "#ff5d73";
    const wide = 5 + (hot ? Math.sin(now / 60) * 1.2 : 0);
    for (const side of [1, -1]) pen.fillRect(side > 0 ? map.hub : -map.beam, -wide, map.beam - map.hub, wide * 2);
    pen.shadowBlur = 0;
    pen.fillStyle = "#ffe3e8";
    for (const side of [1, -1]) pen.fillRect(side > 0 ? map.hub : -map.beam, -1.5, map.beam - map.hub, 3);
    pen.restore();
  }

  drone(drone, now) {
    const { pen } = this;
    pen.save();
    pen.translate(drone.x, drone.y);
    pen.rotate(now / 400);
    pen.shadowColor = "#ff8a5c";
    pen.shadowBlur = 12;
    pen.fillStyle = "#ff8a5c";
    pen.beginPath();
    for (let n = 0; n < 16; n += 1) {
      const [way, far] = [(n / 16) * 2 * Math.PI, n % 2 ? 11 : 18];
      pen.lineTo(Math.cos(way) * far, Math.sin(way) * far);
    }
    pen.fill();
    pen.restore();
    this.disc(drone.x, drone.y, 4, "#3a0f05");
  }

  body(seat, body, face, mine, now) {
    const { pen } = this;
    const color = face?.color ?? "#fff";
    if (body.dashing) this.trails.set(seat, [...(this.trails.get(seat) ?? []).slice(-7), { x: body.x, y: body.y }]);
    else this.trails.delete(seat);
    (this.trails.get(seat) ?? []).forEach((spot, nth, all) => {
      pen.globalAlpha = (nth / all.length) * 0.35;
      this.disc(spot.x, spot.y, 16, color);
    });
    pen.globalAlpha = body.away ? 0.3 : body.safe && Math.floor(now / 90) % 2 ? 0.5 : 1;
    pen.shadowColor = color;
    pen.shadowBlur = body.dashing ? 30 : 12;
    this.disc(body.x, body.y, 17, body.dazed ? "#5b6577" : color, mine ? "#fff" : "#0b0e14", 3);
    pen.shadowBlur = 0;
    const old = this.faced?.get(seat) ?? { x: body.x, y: body.y, way: 0 };
    const moved = Math.hypot(body.x - old.x, body.y - old.y) > 0.5;
    const way = moved ? Math.atan2(body.y - old.y, body.x - old.x) : old.way;
    (this.faced ??= new Map()).set(seat, { x: body.x, y: body.y, way });
    for (const eye of [-0.45, 0.45]) {
      this.disc(body.x + Math.cos(way + eye) * 9, body.y + Math.sin(way + eye) * 9, 4, "#fff");
      this.disc(body.x + Math.cos(way + eye) * 11, body.y + Math.sin(way + eye) * 11, 2, "#0b0e14");
    }
    pen.font = "600 15px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillStyle = mine ? "#fff" : "#c7d2e4";
    pen.fillText(face?.name ?? "", body.x, body.y - 27);
    pen.globalAlpha = 1;
  }

  effects() {
    const { pen } = this;
    for (const spark of this.sparks) {
      spark.x += spark.dx;
      spark.y += spark.dy;
      spark.dx *= 0.94;
      spark.dy *= 0.94;
      spark.life -= 0.03;
      pen.globalAlpha = Math.max(0, spark.life);
      pen.fillStyle = spark.color;
      pen.fillRect(spark.x - 2, spark.y - 2, 4, 4);
    }
    for (const ring of this.rings) {
      ring.life -= 0.05;
      pen.globalAlpha = Math.max(0, ring.life) * 0.6;
      pen.strokeStyle = ring.color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(ring.x, ring.y, 18 + (1 - Math.max(0, ring.life)) * 34, 0, 2 * Math.PI);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    this.sparks = this.sparks.filter((spark) => spark.life > 0);
    this.rings = this.rings.filter((ring) => ring.life > 0);
  }
}
