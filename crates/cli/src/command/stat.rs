//! `ensue stat`: how the store is doing, in numbers.

use ensue::core::{Position, Store};
use ensue::runtime::Catalogue;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

#[derive(Serialize)]
struct Numbers {
    folder: String,
    head: Position,
    commits: u64,
    streams: u64,
    frames: u64,
    journal_bytes: u64,
    journal_files: u64,
    journal_file_bytes: u64,
    /// Up to here the index is on disk; what follows is replayed at the next start.
    indexed: Position,
    window_bytes: usize,
    queue_bytes: usize,
    /// How a commit becomes durable here.
    mode: &'static str,
    limits: Limits,
    /// How long the door of each application remembers ids.
    id_windows: Vec<IdWindow>,
}

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
    let log = session.place.open_log()?;
    let stat = log.stat()?;
    let catalogues = Catalogue::load(&log).await?;
    let capabilities = log.capabilities();
    let numbers = Numbers {
        folder: session.place.folder().display().to_string(),
        head: stat.head,
        commits: stat.commits,
        streams: stat.streams,
        frames: stat.frames,
        journal_bytes: stat.journal_bytes,
        journal_files: stat.journal_files,
        journal_file_bytes: stat.journal_file_bytes,
        indexed: stat.indexed,
        window_bytes: stat.window_bytes,
        queue_bytes: stat.queue_bytes,
        mode: stat.mode.name(),
        limits: Limits {
            event_bytes_max: capabilities.event_bytes_max,
            commit_bytes_max: capabilities.commit_bytes_max,
            record_bytes_max: capabilities.record_bytes_max,
        },
        id_windows: catalogues.iter().map(IdWindow::of).collect(),
    };
    let words = in_words(&numbers);
    session.output.one(&numbers, &words)?;
    Ok(())
}

fn in_words(numbers: &Numbers) -> String {
    let lines = [
        ("folder", numbers.folder.clone()),
        ("events", numbers.head.to_string()),
        ("streams", numbers.streams.to_string()),
        ("commits", format!("{} in {}", numbers.commits, count(numbers.frames, "frame"))),
        (
            "journal",
            format!("{} in {}", mebibytes(numbers.journal_bytes), count(numbers.journal_files, "file")),
        ),
        ("indexed", format!("up to position {}", numbers.indexed)),
        ("durable", format!("by {}", numbers.mode)),
        ("limits", limits(&numbers.limits)),
        ("ids", windows(&numbers.id_windows)),
    ];
    let lines: Vec<String> = lines.iter().map(|(name, text)| format!("{name:<8} {text}")).collect();
    lines.join("\n")
}

fn limits(limits: &Limits) -> String {
    let size = |bytes: usize| mebibytes(bytes as u64);
    format!(
        "event {}, commit {}, record {}",
        size(limits.event_bytes_max),
        size(limits.commit_bytes_max),
        size(limits.record_bytes_max)
    )
}

impl IdWindow {
    fn of(catalogue: &Catalogue) -> Self {
        Self { application: catalogue.application.clone(), seconds: catalogue.window().as_secs() }
    }
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
