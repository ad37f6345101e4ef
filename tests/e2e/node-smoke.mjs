// The stock socket.io-client against a node, over each of its transports.
// GREENROOM_SMOKE_URL names the server, which is `cargo run -p greenroom-node --example echo`.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { io } from "socket.io-client";

const url = process.env.GREENROOM_SMOKE_URL ?? "http://127.0.0.1:3000";

const sockets = [];
after(() => sockets.forEach((socket) => socket.disconnect()));

function open(path, options) {
  const socket = io(url + path, { forceNew: true, reconnection: false, ...options });
  sockets.push(socket);
  return socket;
}

function once(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} within 5 s`)), 5_000);
    emitter.once(name, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });
}

async function connected(path, options) {
  const socket = open(path, options);
  await once(socket, "connect");
  return socket;
}

const transports = {
  "default transports": {},
  "polling only": { transports: ["polling"] },
  "websocket only": { transports: ["websocket"] },
};

for (const [name, options] of Object.entries(transports)) {
  describe(name, () => {
    test("a socket connects and has an id of its own", async () => {
      const socket = open("/", options);
      const [welcome] = await once(socket, "welcome");
      assert.equal(welcome.id, socket.id);
      assert.equal(socket.id.length, 20);
      assert.notEqual(socket.id, socket.io.engine.id);
      assert.ok(!socket.recovered);
    });

    test("acks and events come back with their arguments", async () => {
      const socket = await connected("/", options);
      const deep = { text: "é\u{1F600}\u001e", list: [1, [2, { three: null }]] };
      assert.deepEqual(await socket.timeout(5_000).emitWithAck("echo", deep), deep);
      socket.emit("echo", 1, "two", [3]);
      assert.deepEqual(await once(socket, "echo"), [1, "two", [3]]);
    });

    test("binary goes both ways", async () => {
      const socket = await connected("/", options);
      const back = await socket.timeout(5_000).emitWithAck("echo", { deep: Buffer.from([1, 2, 255]) });
      assert.deepEqual([...back.deep], [1, 2, 255]);
      socket.emit("bytes");
      const [first, second] = await once(socket, "bytes");
      assert.deepEqual([[...first], [...second]], [[1, 2, 3], [4]]);
    });

    test("the server asks and the client answers, or does not", async () => {
      const socket = await connected("/", options);
      socket.on("question", ({ n }, answer) => answer(n + 1));
      socket.emit("ask");
      assert.deepEqual(await once(socket, "answered"), [21]);
      socket.off("question");
      socket.emit("ask");
      assert.deepEqual(await once(socket, "answered"), ["the client did not answer in time"]);
    });

    test("a group gets what is said to it, except who said it", async () => {
      const [ann, bob, eve] = await Promise.all([1, 2, 3].map(() => connected("/", options)));
      const group = `red-${name}`;
      await ann.timeout(5_000).emitWithAck("join", group);
      await bob.timeout(5_000).emitWithAck("join", group);
      ann.on("said", () => assert.fail("the speaker heard itself"));
      eve.on("said", () => assert.fail("a stranger heard it"));
      const heard = once(bob, "said");
      ann.emit("say", group, "hello");
      assert.deepEqual(await heard, [group, "hello"]);
      const direct = once(bob, "said");
      ann.emit("say", bob.id, "to you");
      assert.deepEqual(await direct, [bob.id, "to you"]);
    });

    test("a thousand events arrive in order", async () => {
      const socket = await connected("/", options);
      const seen = [];
      const done = new Promise((resolve) => {
        socket.on("n", (n) => {
          seen.push(n);
          if (seen.length === 1_000) resolve();
        });
      });
      socket.emit("count", 1_000);
      await done;
      assert.deepEqual(seen, Array.from({ length: 1_000 }, (_, n) => n));
    });

    test("a namespace refuses with message and data, or does not exist", async () => {
      const refused = open("/members", options);
      const [error] = await once(refused, "connect_error");
      assert.equal(error.message, "who are you");
      assert.deepEqual(error.data, { code: "no_name" });
      const [unknown] = await once(open("/nowhere", options), "connect_error");
      assert.equal(unknown.message, "Invalid namespace");
      await connected("/members", { ...options, auth: { name: "ann" } });
    });

    test("each end has its own disconnect reason", async () => {
      const kicked = await connected("/", options);
      kicked.emit("kick");
      assert.equal((await once(kicked, "disconnect"))[0], "io server disconnect");
      const dropped = await connected("/", options);
      dropped.emit("hang_up");
      assert.equal((await once(dropped, "disconnect"))[0], "transport close");
      const leaving = await connected("/", options);
      const left = once(leaving, "disconnect");
      leaving.disconnect();
      assert.equal((await left)[0], "io client disconnect");
    });
  });
}

test("default transports end up on websocket", async () => {
  const socket = await connected("/", {});
  if (socket.io.engine.transport.name !== "websocket") await once(socket.io.engine, "upgrade");
  assert.equal(socket.io.engine.transport.name, "websocket");
  assert.equal(await socket.timeout(5_000).emitWithAck("echo", "after"), "after");
});
