// A gameserver that speaks with nobody but its agent, by the documented recipe. Started by sdk.test.mjs.
import process from 'node:process';

import { sdk } from '../../docs/recipes/sdk.mjs';

process.on('SIGTERM', () => process.exit(0));
const { peers } = await sdk.peers();
await sdk.setLabel('role', peers.length > 1 ? 'later' : 'first');
await sdk.ready();
sdk.keepTelling(() => ({ connections: 0, rooms: [] }));
for await (const { event, peer, name } of sdk.watchPeers()) {
  console.log(`peer ${event} ${peer?.name ?? name ?? ''} ${peer?.state ?? ''} ${peer?.labels?.role ?? ''}`.trim());
}
