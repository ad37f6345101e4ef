// The relay's four events on the npm server, to be measured beside ours.
// Never an option that ours has not: no compression, WebSocket and polling, the port as first argument.

import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer((request, response) => {
  response.writeHead(request.url === "/livez" ? 200 : 404).end("alive");
});
const io = new Server(http, { perMessageDeflate: false, serveClient: false, cors: { origin: "*" } });

io.on("connection", (socket) => {
  let room;
  socket.on("echo", (payload, answer) => answer(payload));
  socket.on("join", (name, answer) => {
    if (room) socket.leave(room);
    room = name;
    socket.join(room);
    answer(room);
  });
  socket.on("pos", (payload) => socket.to(room).emit("pos", payload));
  socket.on("all", (payload) => io.emit("all", payload));
});

http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
