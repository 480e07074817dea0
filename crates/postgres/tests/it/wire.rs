//! What stands in the way between a store and a server, message by message: a line that breaks in the middle of a commit, and a
//! server that answers by a script.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where the line breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Where the next statement is sent that reads what a commit is decided by: nothing of the commit has been written.
    Decision,
    /// Where the next `COMMIT` is sent: it does not arrive.
    Commit,
    /// Where the next `COMMIT` is answered: it took hold, and the answer does not arrive.
    Answer,
    /// Where the next write is answered, by a pooler that has lost the server meanwhile and says so to what it waits for; the commit behind the write
    /// took hold.
    Pooler,
}

/// A message of either side: its kind, and the whole of it.
struct Message {
    kind: u8,
    bytes: Vec<u8>,
}

impl Message {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let kind = stream.read_u8().await?;
        let bytes = counted(stream, vec![kind]).await?;
        Ok(Self { kind, bytes })
    }

    fn holds(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len()).any(|part| part == text)
    }
}

/// What is said first, which has no kind.
async fn first_words(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    counted(stream, Vec::new()).await
}

async fn counted(stream: &mut (impl AsyncRead + Unpin), mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    bytes.extend(length.to_be_bytes());
    let start = bytes.len();
    bytes.resize(start + length as usize - 4, 0);
    stream.read_exact(&mut bytes[start..]).await?;
    Ok(bytes)
}

/// A line to a server that breaks where it is told to.
pub(crate) struct Line {
    port: u16,
    cuts: Arc<Cuts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Cuts {
    due: Mutex<VecDeque<Cut>>,
    happened: Mutex<Vec<Cut>>,
}

impl Cuts {
    fn is_due(&self, cut: Cut) -> bool {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).front() == Some(&cut)
    }

    /// Whether the line breaks here.
    fn happens(&self, cut: Cut) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.front() != Some(&cut) {
            return false;
        }
        due.pop_front();
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push(cut);
        true
    }
}

impl Line {
    /// To the server at this port.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let cuts = Arc::<Cuts>::default();
        let for_all = Arc::clone(&cuts);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&for_all)));
            }
        });
        Self { port, cuts, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it breaks at these places, one after the other.
    pub(crate) fn cut(&self, cuts: &[Cut]) {
        self.cuts.due.lock().unwrap_or_else(PoisonError::into_inner).extend(cuts);
    }

    /// Where it has broken.
    pub(crate) fn happened(&self) -> Vec<Cut> {
        self.cuts.happened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until either end goes or the line breaks; then both are closed.
async fn carry(client: TcpStream, server: u16, cuts: Arc<Cuts>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_held = AtomicBool::new(false);
    let up = async {
        to_server.write_all(&first_words(&mut from_client).await?).await?;
        loop {
            let message = Message::read(&mut from_client).await?;
            let breaks = match message.kind {
                b'P' if message.holds(b"ensue.load_batch") => cuts.happens(Cut::Decision),
                b'Q' if message.holds(b"COMMIT\0") => cuts.happens(Cut::Commit),
                _ => false,
            };
            if breaks {
                return Ok(());
            }
            if message.kind == b'P' && message.holds(b"ensue.write_batch") && cuts.is_due(Cut::Pooler) {
                is_held.store(true, Ordering::Relaxed);
            }
            to_server.write_all(&message.bytes).await?;
        }
    };
    let down = async {
        loop {
            let message = Message::read(&mut from_server).await?;
            let is_commit = message.kind == b'C' && message.holds(b"COMMIT\0");
            if is_commit && cuts.happens(Cut::Answer) {
                return Ok(());
            }
            if is_held.load(Ordering::Relaxed) {
                if is_commit && cuts.happens(Cut::Pooler) {
                    return to_client.write_all(&lost_the_server()).await;
                }
                continue;
            }
            to_client.write_all(&message.bytes).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// What `PgBouncer` says whose link to the server is gone.
fn lost_the_server() -> Vec<u8> {
    message(b'E', b"SFATAL\0C08P01\0Mserver conn crashed?\0\0")
}

/// A server that says it is of this version, such as 140011 for 14.11, whatever it is asked. Answers with its port.
pub(crate) async fn server_of(version: i32) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(answer(client, version));
        }
    });
    port
}

async fn answer(mut client: TcpStream, version: i32) -> io::Result<()> {
    first_words(&mut client).await?;
    let ready = message(b'Z', b"I");
    client.write_all(&[message(b'R', &0_i32.to_be_bytes()), ready.clone()].concat()).await?;
    let [columns, row] = [columns(), row(version)];
    let answer = [message(b'1', b""), message(b'2', b""), columns, row, message(b'C', b"SELECT 1\0"), ready];
    loop {
        if Message::read(&mut client).await?.kind == b'S' {
            client.write_all(&answer.concat()).await?;
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// A number, a text and a truth value, all as bytes.
fn columns() -> Vec<u8> {
    let column = |type_id: i32, size: i16| {
        [
            b"?\0".to_vec(),
            0_i32.to_be_bytes().to_vec(),
            0_i16.to_be_bytes().to_vec(),
            type_id.to_be_bytes().to_vec(),
            size.to_be_bytes().to_vec(),
            (-1_i32).to_be_bytes().to_vec(),
            1_i16.to_be_bytes().to_vec(),
        ]
        .concat()
    };
    message(b'T', &[3_i16.to_be_bytes().to_vec(), column(23, 4), column(25, -1), column(16, 1)].concat())
}

fn row(version: i32) -> Vec<u8> {
    let value = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("a short value");
        [&length.to_be_bytes()[..], bytes].concat()
    };
    let values = [value(&version.to_be_bytes()), value(b"UTF8"), value(&[0])].concat();
    message(b'D', &[&3_i16.to_be_bytes()[..], &values].concat())
}
