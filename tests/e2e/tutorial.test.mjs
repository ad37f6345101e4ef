// Follows docs/tutorial-recovery.md to the letter: writes its files, types its commands, compares what they print.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

import { BIN, clear, freePorts, processesOf, test, until } from './harness.mjs';
import { blocksOf } from './page.mjs';

const PAGE = new URL('../../docs/tutorial-recovery.md', import.meta.url);
const MODULES = new URL('node_modules', import.meta.url).pathname;

test('the tutorial prints what it says', { timeout: 240_000 }, async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'greenroom-tutorial-'));
  // Ports that nobody else on this machine uses; a reader's are those of the page.
  const first = await freePorts(30);
  const ported = (text) => text.replaceAll('8700', first).replaceAll('4001', first + 1).replaceAll('4002', first + 2);
  await writeFile(path.join(folder, 'greenroom'), `#!/bin/sh
case "$1" in
dev) shift; exec '${BIN}' dev --port ${first} "$@" ;;
*) exec '${BIN}' "$@" ;;
esac
`);
  await chmod(path.join(folder, 'greenroom'), 0o755);
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, GREENROOM_TEST_FOLDER: folder, GREENROOM_SERVER_URL: `http://127.0.0.1:${first}` };
  const type = (command) => spawn('bash', ['-e', '-c', command], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let dev = null;
  const stop = async () => {
    if (!dev || dev.exitCode !== null) return;
    const ended = once(dev, 'exit');
    for (const { pid, command } of await processesOf(folder)) if (command.includes(' dev ')) process.kill(pid, 'SIGINT');
    await ended;
  };
  t.after(async () => {
    await stop();
    await clear(folder);
  });

  let said = null;
  let compared = 0;
  for (const { language, mark, text, line } of blocksOf(await readFile(PAGE, 'utf8'))) {
    if (mark.startsWith('file=')) {
      const hosted = mark.endsWith('.toml') ? `\n[host]\nports = "${first + 3}-${first + 29}"\n` : '';
      await writeFile(path.join(folder, mark.slice(5)), ported(text) + hosted);
    } else if (mark === 'setup') {
      assert.equal(text.trim(), 'npm install socket.io-client');
      await symlink(MODULES, path.join(folder, 'node_modules')); // installed already, by the lock file of these tests
    } else if (mark === 'serve') {
      await stop();
      dev = type(`exec ${text}`);
      dev.stdout.resume();
      await until('greenroom is ready', async () => (await fetch(`http://127.0.0.1:${first}/readyz`)).ok, 60_000);
    } else if (language === 'sh') {
      const shell = type(ported(text));
      said = '';
      shell.stdout.on('data', (chunk) => (said += chunk));
      const [code] = await once(shell, 'close');
      assert.equal(code, 0, `line ${line}: it ended with ${code} and said: ${said}`);
    } else if (language === 'text') {
      assert.equal(said, text, `line ${line}`);
      compared += 1;
    } else {
      assert.fail(`line ${line}: nobody knows what to do with this block`);
    }
  }
  assert.equal(compared, 5, 'all of the outputs were compared');
});
