//! One plain HTTP request, for what tells its health that way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Whether `GET path` at `HOST:PORT` is answered with 200.
pub(crate) fn is_ok(address: &str, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let head = exchange(address, request.as_bytes(), 12);
    head.is_some_and(|head| head.starts_with(b"HTTP/1") && head.ends_with(b" 200"))
}

/// Sends bytes, and reads as many as are expected.
pub(crate) fn exchange(address: &str, request: &[u8], answer_bytes: usize) -> Option<Vec<u8>> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(ANSWERS_WITHIN)).ok()?;
    connection.write_all(request).ok()?;
    let mut answer = vec![0; answer_bytes];
    connection.read_exact(&mut answer).ok()?;
    Some(answer)
}
