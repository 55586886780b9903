// V8's own use of signals, and node's deaths: node crash.js WAY [ADDON].
'use strict';

const TIMES = 10_000;
// What a child blocks and ignores.
const SIGNALS = 'sed -n /Sig[BI]/p /proc/self/status >&2; exit 4';

// (module (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load))
const MODULE = Buffer.from(
  '0061736d0100000001060160017f017f030201000503010001070801046c6f616400000a0901070020002802000b',
  'hex',
);

// Each out-of-bounds load is a SIGSEGV that V8 turns into a RangeError.
async function storm() {
  const { instance } = await WebAssembly.instantiate(MODULE);
  let caught = 0;
  for (let i = 0; i < TIMES; i++) {
    try {
      instance.exports.load(-1);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      caught++;
    }
  }
  console.log(`traps caught: ${caught}`);
}

function overflow() {
  const recurse = (depth) => recurse(depth + 1) + 1;
  try {
    recurse(0);
  } catch (error) {
    console.log(`caught: ${error.name}`);
  }
}

function children() {
  const { spawnSync } = require('node:child_process');
  for (const end of ['exit 0', 'exit 3', 'kill -TERM $$', SIGNALS]) {
    const { status, signal } = spawnSync('sh', ['-c', end], { stdio: 'inherit' });
    console.log(`${end}: ${status} ${signal}`);
  }
}

// Its handler runs in the event loop, long after the signal's own.
function handled() {
  process.on('SIGABRT', () => {
    console.log('handled');
    process.exit(3);
  });
  process.kill(process.pid, 'SIGABRT');
  setInterval(() => {}, 1000);
}

const ways = {
  storm,
  overflow,
  children,
  handled,
  addon: () => require(process.argv[3]),
  abort: () => process.abort(),
  kill: () => {
    process.kill(process.pid, 'SIGSEGV');
    setInterval(() => {}, 1000);
  },
  uncaught: () => {
    throw new Error('uncaught');
  },
};

ways[process.argv[2]]();
