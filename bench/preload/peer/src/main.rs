//! peer serve SOCKET DIRECTORY     writes the minidumps of those who crash
//! peer crash THREADS [SOCKET]     crashes, with a handler that asks SOCKET for a minidump
//!
//! `crash` prints CLOCK_MONOTONIC in ns, eight bytes, right before its fault.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};

struct Handler {
    directory: PathBuf,
}

impl minidumper::ServerHandler for Handler {
    fn create_minidump_file(&self) -> Result<(std::fs::File, PathBuf), std::io::Error> {
        let path = self.directory.join("crash.dmp");
        Ok((std::fs::File::create(&path)?, path))
    }

    fn on_minidump_created(
        &self,
        result: Result<minidumper::MinidumpBinary, minidumper::Error>,
    ) -> minidumper::LoopAction {
        result.expect("a minidump");
        minidumper::LoopAction::Continue
    }

    fn on_message(&self, _kind: u32, _buffer: Vec<u8>) {}
}

fn serve(socket: &str, directory: &str) {
    let handler = Handler { directory: directory.into() };
    let mut server = minidumper::Server::with_name(Path::new(socket)).expect("a server");
    println!("ready");
    server.run(Box::new(handler), &AtomicBool::new(false), None).expect("to serve");
}

fn attach(socket: &str) -> crash_handler::CrashHandler {
    let client = minidumper::Client::with_name(Path::new(socket)).expect("a client");
    // SAFETY: the closure does what the crate's own example does.
    let event = unsafe {
        crash_handler::make_crash_event(move |context: &crash_handler::CrashContext| {
            // Not handled, so that the process dies of its signal.
            client.request_dump(context).expect("a dump");
            crash_handler::CrashEventResult::Handled(false)
        })
    };
    crash_handler::CrashHandler::attach(event).expect("a handler")
}

fn crash(threads: usize, socket: Option<&String>) {
    let _handler = socket.map(|socket| attach(socket));
    let barrier = Arc::new(Barrier::new(threads));
    for _ in 1..threads {
        let barrier = barrier.clone();
        std::thread::spawn(move || {
            barrier.wait();
            loop {
                std::thread::park();
            }
        });
    }
    barrier.wait();
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the fault is what we want.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        let ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        let mut out = std::io::stdout();
        out.write_all(&ns.to_le_bytes()).expect("a pipe");
        out.flush().expect("a pipe");
        std::arch::asm!("mov {0}, [{0}]", inout(reg) 0usize => _);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[1].as_str() {
        "serve" => serve(&arguments[2], &arguments[3]),
        _ => crash(arguments[2].parse().expect("a number"), arguments.get(3)),
    }
}
