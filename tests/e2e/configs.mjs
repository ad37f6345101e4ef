// Configurations of the tests: the shipped examples, in sizes that a test wants.

const lobby = (min = 2) => `
[fleets.lobby]
kind = "mesh"
command = ["greenroom", "example", "lobby"]
replicas_min = ${min}
replicas_max = ${min}
`;

const arena = ({ min = 2, max = 6, rooms = 16, seconds = 60, env = '' } = {}) => `
[fleets.arena]
kind = "room"
command = ["greenroom", "example", "arena"]
rooms_per_server = ${rooms}
seats_per_room = 4
replicas_min = ${min}
replicas_max = ${max}
match_players = 4
env = { ARENA_ROUND_SECONDS = "${seconds}"${env} }
`;

const chat = ({ seats = 20, rooms = 100, min = 2, recovery } = {}) => `
[fleets.chat]
kind = "room"
command = ["greenroom", "example", "chat"]
rooms_per_server = ${rooms}
seats_per_room = ${seats}
replicas_min = ${min}
replicas_max = ${min}
${recovery ? `recovery = "${recovery}"` : ''}
`;

const whiteboard = (min = 2, { recovery } = {}) => `
[fleets.whiteboard]
kind = "mesh"
command = ["greenroom", "example", "whiteboard"]
replicas_min = ${min}
replicas_max = ${min}
${recovery ? `recovery = "${recovery}"` : ''}
`;

const control = ({ webhook, reservation } = {}) =>
  `[control]\n${webhook ? `webhook_url = "${webhook}"\n` : ''}${reservation ? `reservation = "${reservation}"\n` : ''}`;

const host = (ports) => `[host]\nports = "${ports}"\n`;

/** Joins parts to a whole `greenroom.toml`, as `Greenroom.start` wants it. */
export const config =
  (parts, settings = {}) =>
  (ports) =>
    [control(settings), host(ports), ...parts].join('\n');

export { arena, chat, lobby, whiteboard };
