// Small ways to put values on the page. Never writes markup from data: text goes in as text.

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** Makes an element of `tag` with a class and children; texts become text nodes. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Sets the text of `element` if it differs, so that an unchanged page is not laid out again. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets the class of `element` if it differs. */
export function dress(element, className) {
  if (element.className !== className) element.className = className;
}

/** Sets the tooltip of `element` if it differs. */
export function hint(element, text) {
  if (element.title !== text) element.title = text;
}

/**
 * Makes the children of `parent` follow `items`: one element per key, made once, updated each time, moved only when
 * the order changes. Keeps focus and selection where they are.
 */
export function follow(parent, items, keyOf, create, update) {
  const old = parent.followed ?? new Map();
  const now = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const element = old.get(key) ?? create(item);
    old.delete(key);
    now.set(key, element);
    update(element, item);
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of old.values()) element.remove();
  parent.followed = now;
}

/** `1,234` */
export const count = (number) => number.toLocaleString("en-US");

/** `12s`, `4m`, `3h`, `2d`: the age of something that began at `then`. */
export function age(now, then) {
  const seconds = Math.max(0, Math.floor((now - then) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

/** `14:03:59` in the reader's own time zone. */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
