//! A way to a broker that can be cut while the broker lives. It forwards bytes and understands none of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// Connects through a port of its own. Closed when it is dropped.
pub struct Tunnel {
    address: SocketAddr,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    /// To a port of this machine, which need not be served yet. Wants to be called on a runtime of tokio.
    ///
    /// # Panics
    /// If the system has no free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&open)));
        Self { address, open, accepting }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and says how many there were.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let alive = open.into_iter().filter(|connection| !connection.is_finished());
        alive.map(|connection| connection.abort()).count()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, open: Arc<Mutex<Vec<AbortHandle>>>) {
    // A connection that cannot be accepted is the client's to make again.
    while let Ok((client, _)) = listener.accept().await {
        let connection = tokio::spawn(forward(client, target)).abort_handle();
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| !connection.is_finished());
        open.push(connection);
    }
}

/// Until one side has enough, or it is cut: then both sockets are closed.
async fn forward(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
