// A gameserver that speaks with nobody but its agent, by the documented recipe. Started by sdk.test.mjs.
import process from 'node:process';

import { sdk } from '../../docs/recipes/sdk.mjs';

process.on('SIGTERM', () => process.exit(0));
const { peers } = await sdk.peers();
// What is told is up to a second old: this one may not be among them yet.
const others = peers.filter(({ name }) => name !== process.env.GREENROOM_SERVER);
await sdk.setLabel('role', others.length > 0 ? 'later' : 'first');
await sdk.ready();
sdk.keepTelling(() => ({ connections: 0, rooms: [] }));
for await (const { event, peer, name } of sdk.watchPeers()) {
  console.log(`peer ${event} ${peer?.name ?? name ?? ''} ${peer?.state ?? ''} ${peer?.labels?.role ?? ''}`.trim());
}
