// A parser of a program's own for the stock client, the counterpart of the node's example `echo prefixed`: a text of a
// prefix and JSON, then each binary part as a message of its own.
import { EventEmitter } from 'node:events';

const PREFIX = 'packet ';

/** Takes the binary parts out of a value; placeholders stand for them. */
function takeApart(value, parts) {
  if (ArrayBuffer.isView(value)) return { _placeholder: true, num: parts.push(value) - 1 };
  if (Array.isArray(value)) return value.map((item) => takeApart(item, parts));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, takeApart(item, parts)]));
}

/** The way back. */
function putTogether(value, parts) {
  if (value?._placeholder) return parts[value.num];
  if (Array.isArray(value)) return value.map((item) => putTogether(item, parts));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, putTogether(item, parts)]));
}

export class Encoder {
  encode({ type, nsp, id, data }) {
    const parts = [];
    const plain = data === undefined ? undefined : takeApart(data, parts);
    return [PREFIX + JSON.stringify({ type, nsp, id, data: plain, parts: parts.length }), ...parts];
  }
}

export class Decoder extends EventEmitter {
  #waiting;

  add(message) {
    if (typeof message === 'string') {
      if (!message.startsWith(PREFIX)) throw new Error('the prefix is missing');
      this.#waiting = { head: JSON.parse(message.slice(PREFIX.length)), parts: [] };
    } else {
      this.#waiting.parts.push(message);
    }
    const { head, parts } = this.#waiting;
    if (parts.length < head.parts) return;
    this.emit('decoded', { ...head, data: putTogether(head.data, parts) });
  }

  destroy() {
    this.removeAllListeners();
  }
}
