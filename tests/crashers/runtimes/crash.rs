//! Rust's ways to die and to live: `crash WAY`; built with panic=unwind and with panic=abort.
use std::hint::black_box;
use std::process::{abort, Command};
use std::ptr::{null_mut, write_volatile};
use std::thread;

/// What a child blocks and ignores.
const SIGNALS: &str = "sed -n /Sig[BI]/p /proc/self/status >&2; exit 4";

#[inline(never)]
fn null_write() {
    unsafe { write_volatile(black_box(null_mut::<i32>()), 1) }
}

/// The runtime's handler tells its guard page from other faults, and aborts with a message.
#[allow(unconditional_recursion)]
#[inline(never)]
fn recurse(depth: usize) -> usize {
    let page = black_box([0u8; 4096]);
    recurse(depth + 1) + usize::from(page[0])
}

#[inline(never)]
fn panics() {
    panic!("a panic");
}

fn caught() {
    let times = (0..100).filter(|_| thread::spawn(panics).join().is_err()).count();
    println!("panics caught: {times}");
}

fn children() {
    for end in ["exit 0", "exit 3", "kill -TERM $$", SIGNALS] {
        let status = Command::new("sh").args(["-c", end]).status().unwrap();
        println!("{end}: {status}");
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("null_write") => null_write(),
        Some("overflow") => drop(black_box(recurse(0))),
        Some("thread_overflow") => drop(thread::spawn(|| recurse(0)).join()),
        Some("panic") => panics(),
        Some("caught") => caught(),
        Some("abort") => abort(),
        Some("children") => children(),
        _ => unreachable!("no such way"),
    }
}
