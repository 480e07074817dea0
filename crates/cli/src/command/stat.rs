//! `ensue stat`: how the store is doing, in numbers.

use ensue::core::Store;
use ensue::runtime::Catalogue;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::place::Kind;

mod database;
mod log;

/// How long the door of an application remembers ids.
#[derive(Serialize)]
struct IdWindow {
    application: String,
    seconds: u64,
}

#[derive(Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "they are named as in `StoreCapabilities`, and so are their JSON members"
)]
struct Limits {
    event_bytes_max: usize,
    commit_bytes_max: usize,
    record_bytes_max: usize,
}

/// Prints them.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let kind = session.place.open_kind().await?;
    let catalogues = Catalogue::load(kind.portable()).await?;
    let id_windows = catalogues.iter().map(IdWindow::of).collect();
    let store = session.place.to_string();
    match &kind {
        Kind::Log(log) => {
            let folder = session.place.folder().display().to_string();
            let numbers = log::Numbers::of(log, folder, id_windows)?;
            session.output.one(&numbers, &numbers.in_words())?;
        }
        Kind::Postgres(database) => {
            let numbers = database::Numbers::of_postgres(database, store, id_windows).await?;
            session.output.one(&numbers, &numbers.in_words())?;
        }
        Kind::Sqlite(file) => {
            let numbers = database::Numbers::of_sqlite(file, store, id_windows).await?;
            session.output.one(&numbers, &numbers.in_words())?;
        }
    }
    Ok(())
}

impl Limits {
    fn of(store: &dyn Store) -> Self {
        let capabilities = store.capabilities();
        Self {
            event_bytes_max: capabilities.event_bytes_max,
            commit_bytes_max: capabilities.commit_bytes_max,
            record_bytes_max: capabilities.record_bytes_max,
        }
    }

    fn in_words(&self) -> String {
        let size = |bytes: usize| mebibytes(bytes as u64);
        format!(
            "event {}, commit {}, record {}",
            size(self.event_bytes_max),
            size(self.commit_bytes_max),
            size(self.record_bytes_max)
        )
    }
}

impl IdWindow {
    fn of(catalogue: &Catalogue) -> Self {
        Self { application: catalogue.application.clone(), seconds: catalogue.window().as_secs() }
    }
}

fn lines(lines: &[(&str, String)]) -> String {
    let lines: Vec<String> = lines.iter().map(|(name, text)| format!("{name:<8} {text}")).collect();
    lines.join("\n")
}

fn windows(windows: &[IdWindow]) -> String {
    let words = windows.iter().map(|IdWindow { application, seconds }| {
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        format!("remembered by {application} for {hours} h {minutes} min {} s", seconds % 60)
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "no application has run here yet".to_owned() } else { words.join(", ") }
}

/// A size to a tenth of a mebibyte, rounded up, so that something is never nothing.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
