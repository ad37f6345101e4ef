// A game server as one writes it for Agones: it knows its SDK and nothing else of where it runs. Its port is the one that the SDK
// tells. Whoever plays with it says over HTTP what the game does next: `POST /` with [call, ...arguments] of the SDK.
import http from 'node:http';
import process from 'node:process';

import AgonesSDK from '@google-cloud/agones-sdk';

const sdk = new AgonesSDK();
await sdk.connect();

const watched = [];
const watch = () =>
  sdk.watchGameServer(
    (seen) => watched.push({ state: seen.status.state, labels: Object.fromEntries(seen.objectMeta.labelsMap) }),
    () => setTimeout(watch, 100),
  );
watch();

let beats = true;
let healthError = '';
setInterval(() => beats && sdk.health((error) => (healthError = String(error))), 500);

const own = {
  watched: () => watched,
  beat: (on) => (beats = on),
  healthError: () => healthError,
  record: async () => {
    const { objectMeta, status } = await sdk.getGameServer();
    const { name, uid, labelsMap, annotationsMap } = objectMeta;
    return { name, uid, status, labels: Object.fromEntries(labelsMap), annotations: Object.fromEntries(annotationsMap) };
  },
};

const { status } = await sdk.getGameServer();
const server = http.createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  if (request.method !== 'POST') return response.end('here');
  const [call, ...given] = JSON.parse(body);
  const [face, name] = call.includes('.') ? call.split('.') : [null, call];
  try {
    const target = own[call] ? own : face ? sdk[face] : sdk;
    response.end(JSON.stringify({ result: (await target[name](...given)) ?? null }));
  } catch (error) {
    response.end(JSON.stringify({ code: error.code, message: error.details ?? error.message }));
  }
});
server.listen(status.portsList[0].port, '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
