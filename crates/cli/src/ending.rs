//! When a command is told to end: by SIGTERM, or by Ctrl-C.

use ensue::core::{Code, Error};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the command.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// From here on no signal is missed.
    pub(crate) fn new() -> Result<Self, Error> {
        let refused = |cause| Error::new(Code::IO, "cannot wait for signals").with_source(cause);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
        })
    }

    /// Resolves when the process is told to end.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
