//! Ports for servers that a test starts, kills and starts again.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system hands out by itself, which begin at 32,768 on Linux and at 49,152 elsewhere.
const FIRST: u32 = 22_000;
const COUNT: u32 = 10_000;

/// How far apart two processes begin that follow each other.
const STRIDE: u32 = 97;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of this machine at which nothing listens. It is given to nobody else of this process.
///
/// One that the system chooses may be given to the next who asks as soon as it is let go of, be it a server or a client: before the server
/// of the test has it, or while it is killed and is to come back. That server then ends, and its test talks to somebody else's.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let begin = std::process::id().wrapping_mul(STRIDE);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(is_free)
        .expect("a port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_one_that_is_taken_is_left_out() {
        let first = free_port();
        // Where it cannot be held, somebody else has it.
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 1));
        let second = free_port();
        assert!(second != first && second != first + 1, "{first} {second}");
    }
}
