// The pages, in a real Chromium: four players in one arena, one drawing on two nodes, the dashboard (S3-1, S0-16).
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import process from 'node:process';

import { chromium } from 'playwright-core';

import { arena, chat, config, lobby, whiteboard } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';

const ARTIFACTS = new URL('./artifacts/', import.meta.url).pathname;
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows',
];

async function browse(t) {
  await mkdir(ARTIFACTS, { recursive: true });
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  t.after(() => browser.close());
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 } });
  const errors = [];
  context.on('weberror', (error) => errors.push(String(error.error())));
  context.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  return { context, errors };
}

const state = (page) => page.evaluate(() => structuredClone(window.__greenroom));
const shot = (page, name) => page.screenshot({ path: `${ARTIFACTS}${name}.png` });

test('four tabs in one arena room see each other move', async (t) => {
  const greenroom = await withGreenroom(t, config([lobby(), arena({ seconds: 120 }), whiteboard(), chat()]));
  const { context, errors } = await browse(t);
  const pages = [];
  for (let i = 0; i < 4; i += 1) {
    const page = await context.newPage();
    await page.goto(`${greenroom.url}/play/arena?name=tab${i}&autoplay=1`);
    pages.push(page);
  }
  const states = await until('all four play', async () => {
    const all = await Promise.all(pages.map(state));
    return all.every((s) => s?.phase === 'playing' && s.players.length === 4) && all;
  }, 30_000);
  assert.equal(new Set(states.map(({ room }) => room)).size, 1, 'one room');
  assert.deepEqual(states.map(({ seat }) => seat).sort(), [0, 1, 2, 3]);

  const mover = states[0].seat;
  const at = (s) => s.players.find(({ seat }) => seat === mover);
  const before = await Promise.all(pages.map(state));
  await pages[0].bringToFront();
  await pages[0].keyboard.down('ArrowRight');
  await pages[0].keyboard.down('ArrowDown');
  await until('every tab sees the first one move', async () => {
    const now = await Promise.all(pages.map(state));
    return now.every((s, i) => Math.hypot(at(s).x - at(before[i]).x, at(s).y - at(before[i]).y) > 5);
  });
  await pages[0].keyboard.up('ArrowRight');
  await pages[0].keyboard.up('ArrowDown');
  await shot(pages[0], 'arena');

  const dashboard = await context.newPage();
  await dashboard.goto(greenroom.url);
  await until('the dashboard shows the room and its four players', async () => {
    const text = await dashboard.evaluate(() => document.body.innerText);
    return text.includes(states[0].room) && text.includes('arena') && text.includes('whiteboard');
  });
  await shot(dashboard, 'dashboard');
  assert.deepEqual(errors, []);
});

test('two whiteboard tabs on different nodes show the same drawing in the server-kept colour', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(2)]));
  const { context, errors } = await browse(t);
  const one = await context.newPage();
  await one.goto(`${greenroom.url}/play/whiteboard`);
  const first = await until('the first tab is connected', async () => (await state(one))?.server);
  const two = await context.newPage();
  await two.goto(`${greenroom.url}/play/whiteboard`);
  const second = await until('the second tab is connected', async () => (await state(two))?.server);
  assert.notEqual(first, second, 'the endpoint call balanced them over the two nodes');

  await chooseBlue(one);
  await drawLine(one, 0.5);
  await until('the first tab shows a blue line', () => isBlueAt(one, 0.5));
  await until('the second tab, on the other node, shows it too', () => isBlueAt(two, 0.5));
  await shot(two, 'whiteboard');
  assert.deepEqual(errors, []);
});

test('a colour that the server keeps outlives a rolling restart and a kill -9', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(3, { recovery: '2m' })]));
  const { context } = await browse(t); // a lost connection is an error in the console, and is meant to be
  const [one, two] = [await context.newPage(), await context.newPage()];
  for (const page of [one, two]) {
    await page.goto(`${greenroom.url}/play/whiteboard`);
    await until('a tab is connected', async () => (await state(page))?.server);
  }
  await chooseBlue(one);
  await drawLine(one, 0.25);
  await until('the other tab shows a blue line', () => isBlueAt(two, 0.25));

  const { gameservers } = await greenroom.get('/v1/gameservers');
  assert.equal(gameservers.length, 3);
  for (const { name } of gameservers) await replace(greenroom, name, 'SIGTERM');
  const both = () => Promise.all([one, two].map(state));
  await until('both tabs are back after the rolling restart', async () => (await both()).every(({ phase }) => phase === 'connected'), 30_000);
  await replace(greenroom, (await state(one)).server, 'SIGKILL');
  await until('both tabs are back after the kill', async () => (await both()).every(({ phase }) => phase === 'connected'), 30_000);

  await drawLine(one, 0.75);
  await until('the line after all that is blue in the other tab', () => isBlueAt(two, 0.75));
  assert.equal(await one.evaluate(() => window.__greenroom.told), 1, 'the page said its colour once, before all that');
  await shot(two, 'whiteboard-after-crash');
});

/** Ends the process of a gameserver and waits until the agent has started it again. */
async function replace(greenroom, name, signal) {
  const { pid } = await greenroom.get(`/v1/gameservers/${name}`);
  process.kill(pid, signal);
  await until(`${name} is ready again after ${signal}`, async () => {
    const now = await greenroom.get(`/v1/gameservers/${name}`);
    return now.state === 'ready' && now.pid !== pid;
  }, 30_000);
}

async function chooseBlue(page) {
  await page.evaluate(() => window.__greenroom.setColor('blue'));
  await until('the page knows the colour', () => page.evaluate(() => window.__greenroom.color === 'blue'));
}

/** A line from left to right, at this fraction of the sheet's height. */
async function drawLine(page, height) {
  const box = await page.locator('canvas').boundingBox();
  const line = { x: box.x + box.width * 0.25, y: box.y + box.height * height };
  await page.bringToFront();
  await page.mouse.move(line.x, line.y);
  await page.mouse.down();
  for (let i = 1; i <= 20; i += 1) await page.mouse.move(line.x + (box.width * 0.5 * i) / 20, line.y);
  await page.mouse.up();
}

/** Whether the pixel in the middle of that line is blue. */
async function isBlueAt(page, height) {
  const [r, g, b, a] = await page.evaluate((share) => {
    const canvas = document.querySelector('canvas');
    const at = [Math.round(canvas.width / 2), Math.round(canvas.height * share)];
    return [...canvas.getContext('2d').getImageData(...at, 1, 1).data];
  }, height);
  return a > 200 && b > 180 && b > r + 60 && b > g + 30;
}

test('two guild members chat in one room', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 2 })]));
  const { context, errors } = await browse(t);
  const [ann, bob] = [await context.newPage(), await context.newPage()];
  await ann.goto(`${greenroom.url}/play/chat?guild=tigers&name=ann`);
  await bob.goto(`${greenroom.url}/play/chat?guild=tigers&name=bob`);
  const rooms = await until('both are in', async () => {
    const both = await Promise.all([state(ann), state(bob)]);
    return both.every((s) => s?.phase === 'connected') && both.map(({ room }) => room);
  });
  assert.equal(rooms[0], rooms[1]);
  await ann.locator('input[name=message]').fill('hello <b>tigers</b>');
  await ann.keyboard.press('Enter');
  await until('bob reads it as text', async () =>
    (await bob.evaluate(() => document.body.innerText)).includes('hello <b>tigers</b>'));
  await shot(bob, 'chat');
  assert.deepEqual(errors, []);
});
