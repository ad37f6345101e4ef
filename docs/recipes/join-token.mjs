// Checks a Greenroom JoinToken in a gameserver that is not written with Greenroom's own node. Node.js, no packages.
import { createPublicKey, verify } from 'node:crypto';

const keys = new Map(); // by key id; fetched again when a token names an unknown one
const json = (part) => JSON.parse(Buffer.from(part, 'base64url'));

/** The claims of a token that opens a seat on this server, or an error that says why not. */
export async function joinClaims(token, { control, fleet, instance, now = Date.now() }) {
  const [header, payload, signature] = String(token).split('.');
  const { alg, kid } = json(header);
  if (alg !== 'EdDSA') throw new Error('token_malformed');
  if (!keys.has(kid)) {
    const set = await (await fetch(`${control}/v1/keys`)).json();
    for (const jwk of set.keys) keys.set(jwk.kid, createPublicKey({ key: jwk, format: 'jwk' }));
  }
  const good = keys.has(kid) && verify(null, Buffer.from(`${header}.${payload}`), keys.get(kid), Buffer.from(signature, 'base64url'));
  if (!good) throw new Error('token_signature');
  const claims = json(payload);
  if (claims.iss !== 'greenroom' || claims.aud !== fleet) throw new Error('wrong_fleet');
  if (claims.instance !== instance) throw new Error('wrong_server'); // your GREENROOM_INSTANCE
  if (now >= claims.exp * 1000) throw new Error('token_expired');
  return claims; // remember claims.jti: the first use takes the seat, a second use is somebody else
}
