//! peer serve SOCKET DIRECTORY     writes the minidumps of those who crash
//! peer crash THREADS [HANDLER AT] crashes; HANDLER is minidumper, which asks the server at the
//!                                 socket AT, or breakpad, which writes into the directory AT
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

extern "C" fn written(_path: *const u8, _bytes: usize, _context: *mut std::ffi::c_void) {}

fn attach_breakpad(directory: &str) {
    // SAFETY: the path is copied; the handler stays until the end.
    unsafe {
        breakpad_sys::attach_exception_handler(
            directory.as_ptr(),
            directory.len(),
            written,
            std::ptr::null_mut(),
            breakpad_sys::INSTALL_BOTH_HANDLERS,
        );
    }
}

fn crash(threads: usize, handler: Option<&str>, at: &str) {
    let _handler = match handler {
        Some("minidumper") => Some(attach(at)),
        Some("breakpad") => {
            attach_breakpad(at);
            None
        }
        _ => None,
    };
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
        _ => crash(
            arguments[2].parse().expect("a number"),
            arguments.get(3).map(String::as_str),
            arguments.get(4).map_or("", String::as_str),
        ),
    }
}
