// One `mixmatch serve` on a free port of this machine, in a data directory of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

const START_MS = 120_000;
const STOP_MS = 60_000;

/// Starts one and waits until it is ready; `env` lies over this process's. Its `log()` is all that it has said.
export async function startServer(env = {}) {
  const binary = process.env.MIXMATCH_BINARY;
  if (!binary) throw new Error('MIXMATCH_BINARY names no binary: run scripts/dashboard_check.sh, which sets it');
  const directory = await mkdtemp(join(tmpdir(), 'mixmatch-dashboard-'));
  const child = spawn(resolve(binary), ['serve', '--data-dir', join(directory, 'data'), '--listen', '127.0.0.1:0', '--devices', 'cpu'], {
    // What somebody has set for a server of their own is not for this one.
    env: { ...without('MIXMATCH_'), ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    // A session of its own: Linux then shares the processor with it fairly, though its trainings are nice to all in it.
    detached: true,
  });
  // However this process ends, it leaves no server behind.
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

  const lines = [];
  const ended = once(child, 'close');
  const address = new Promise((found) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line);
      const [, base] = /listening on (http:[^,\s]+)/.exec(line) ?? [];
      if (base) found(base);
    });
  });
  const log = () => lines.join('\n');

  async function stop() {
    child.kill('SIGTERM');
    const late = setTimeout(kill, STOP_MS);
    const [code, signal] = await ended;
    clearTimeout(late);
    process.off('exit', kill);
    await rm(directory, { recursive: true, force: true });
    if (code !== 0) throw new Error(`the server ended with ${signal ?? `exit code ${code}`}:\n${log()}`);
  }

  try {
    const base = await within(START_MS, 'the server', Promise.race([address, ended.then(([code]) => {
      throw new Error(`it ended with exit code ${code}`);
    })]));
    await within(START_MS, '/readyz', ready(base));
    return { base, log, stop };
  } catch (error) {
    kill();
    await ended.catch(() => {});
    await rm(directory, { recursive: true, force: true });
    throw new Error(`${binary} could not be started: ${error.message}\n${log()}`);
  }
}

function without(prefix) {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith(prefix)));
}

async function ready(base) {
  while (!(await fetch(`${base}/readyz`)).ok) await pause(100);
}

async function within(ms, what, work) {
  const late = new AbortController();
  const timer = pause(ms, null, { signal: late.signal }).then(() => {
    throw new Error(`${what} was not there within ${ms / 1000} s`);
  }, () => {});
  try {
    return await Promise.race([work, timer]);
  } finally {
    late.abort();
  }
}
