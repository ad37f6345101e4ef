// Leads a stock Socket.IO socket to the right server of a Greenroom fleet, and back to it: asks for the address, carries
// the token, follows `greenroom:move`, asks again on failure. The Socket stays the same object across addresses, and with
// it handlers, buffered events and the session (`pid` and offset). Never touches the events of the application.
import { Manager, type ManagerOptions, type Socket } from "socket.io-client";

/** Where to connect, and the join token to show there, if the fleet has rooms. */
export interface Address {
  url: string;
  token?: string | undefined;
}

/** Finds the address now. It is asked at the start and after each failure, so a rejection is not the end. */
export type Discover = (signal: AbortSignal) => Promise<Address>;

/** What the server said about the session: kept whole, or why it is a new one. */
export interface Recovery {
  recovered: boolean;
  reason?: "window_over" | "history_full" | "rewound" | "unknown_session" | "refused" | "unavailable";
}

export interface FollowerOptions extends Partial<ManagerOptions> {
  /** Namespace of the socket. Default `/`. */
  namespace?: string;
  /** What else goes into the handshake's `auth`, beside the token. */
  auth?: Record<string, unknown>;
  /** Longest wait for one answer of `discover`, in ms. Default 15,000. */
  askTimeout?: number;
  /** Told after each connect, when the server has recovery. Without it a missed event may be missing for good. */
  onRecovery?: (recovery: Recovery) => void;
  /** Told each time the address could not be found; it is asked for again. */
  onAskError?: (error: Error) => void;
}

/** Refusals that a fresh address and token mend. After any other the stock client stops, and so does this. */
const ASK_AGAIN = new Set(["token_expired", "token_used", "wrong_fleet", "wrong_server", "room_ended", "seat_taken", "room_full"]);

/** The least loaded server of a `mesh` fleet. `api` is the control plane, or your back end in front of it. */
export function endpointOf(api: string, fleet: string, init?: RequestInit): Discover {
  return async (signal) => {
    const { url } = await ask(`${api}/v1/fleets/${encodeURIComponent(fleet)}/endpoint`, { ...init, signal });
    return { url };
  };
}

/** The room of this key with a seat for this player, in a `room` fleet; made if there is none. */
export function roomOf(api: string, fleet: string, key: string, player: string, init?: RequestInit): Discover {
  return async (signal) => {
    const headers = { ...(init?.headers as Record<string, string>), "content-type": "application/json" };
    const body = JSON.stringify({ key, players: [player] });
    const { url, seats } = await ask(`${api}/v1/fleets/${encodeURIComponent(fleet)}/rooms`, { ...init, method: "POST", headers, body, signal });
    return { url, token: seats?.find((seat) => seat.player === player)?.token };
  };
}

async function ask(url: string, init: RequestInit): Promise<{ url: string; seats?: { player: string; token: string }[] }> {
  const answer = await fetch(url, init);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error?.message ?? `status ${answer.status}`), body.error);
  return body;
}

/** A stock `socket` that finds its server and follows it, from construction until `close`. */
export class Follower {
  readonly socket: Socket;
  /** Where the socket is, or last tried to be. */
  address: Address | undefined;
  /** How the last connect went; the reason comes right after it. */
  recovery: Recovery | undefined;
  readonly #manager: Manager;
  readonly #discover: Discover;
  readonly #options: FollowerOptions;
  #asking: Promise<boolean> | undefined;
  #refusals = 0;
  #move: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(discover: Discover, options: FollowerOptions = {}) {
    this.#discover = discover;
    this.#options = options;
    this.#manager = new Manager({ ...options, autoConnect: false });
    const auth = (send: (auth: object) => void): void =>
      send({ ...options.auth, ...(this.address?.token && { token: this.address.token }), greenroom: { recovery: true, moves: true } });
    this.socket = this.#manager.socket(options.namespace ?? "/", { auth });
    // The first way back is always the same address: a crashed server starts on its own port. Only when nobody answers
    // there is the control plane asked, while the stock client backs off with jitter before its next attempt.
    this.#manager.on("error", () => !this.socket.connected && void this.#ask());
    this.socket.on("connect", () => {
      this.#refusals = 0;
      this.recovery = { recovered: this.socket.recovered };
    });
    this.socket.on("connect_error", (refused: Error & { data?: { code?: string } }) => {
      if (ASK_AGAIN.has(refused.data?.code ?? "")) void this.#find((this.#refusals += 1));
    });
    this.socket.on("greenroom:recovery", ({ recovered, reason }: Recovery) => {
      this.recovery = reason ? { recovered, reason } : { recovered };
      options.onRecovery?.(this.recovery);
    });
    this.socket.on("greenroom:move", (to: { endpoint?: string; token?: string; delay_ms?: number }) => {
      clearTimeout(this.#move); // the last word counts
      this.#move = setTimeout(() => void this.#follow(to), to.delay_ms ?? 0);
    });
    // The player has come from elsewhere. Asking for a token again would take the seat back, for ever in turn.
    this.socket.on("greenroom:taken_over", () => this.close());
    void this.#find(0);
  }

  /** Ends it: leaves the server, asks nobody any more. A second call does nothing. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#move);
    this.socket.disconnect();
  }

  /** Asks until there is an address, waiting longer each time, and connects. */
  async #find(tries: number): Promise<void> {
    for (; ; tries += 1) {
      if (tries > 0) await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** tries, 10_000) * (0.5 + Math.random())));
      if (this.#closed) return;
      if (await this.#ask()) break;
    }
    if (!this.#closed) this.socket.connect();
  }

  /** One question at a time; false when there was no answer, and the address stays as it was. */
  #ask(): Promise<boolean> {
    this.#asking ??= this.#answer(AbortSignal.timeout(this.#options.askTimeout ?? 15_000))
      .then((found) => (this.#point(found), true))
      .catch((error: Error) => (this.#options.onAskError?.(error), false))
      .finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** Within the time of `signal`, also where `discover` does not look at it. */
  #answer(signal: AbortSignal): Promise<Address> {
    const late = new Promise<never>((_, refuse) => signal.addEventListener("abort", () => refuse(signal.reason), { once: true }));
    return Promise.race([Promise.resolve(signal).then(this.#discover), late]);
  }

  /** From the next attempt on. The stock manager reads its `uri` at each one. */
  #point(address: Address): void {
    this.address = address;
    (this.#manager as unknown as { uri: string }).uri = address.url;
  }

  /** Where no address is told, the server is about to end and knows of none: it is asked for. */
  async #follow({ endpoint, token }: { endpoint?: string; token?: string }): Promise<void> {
    const scheme = new URL(this.address?.url ?? "http://unknown").protocol;
    if (!endpoint) await this.#ask();
    else this.#point({ url: endpoint.includes("://") ? endpoint : `${scheme}//${endpoint}`, token: token ?? this.address?.token });
    if (!this.socket.connected) return; // already on its way
    // The server has spread the moves by their delays, so nothing is waited for here.
    const usual = this.#manager.reconnectionDelay();
    this.#manager.reconnectionDelay(1).once("reconnect_attempt", () => this.#manager.reconnectionDelay(usual));
    this.#manager.engine.close();
  }
}
