//! `ensue emit [TYPE] -d @FILE|-|LITERAL [--stream TOPIC/KEY]`: events from outside, each once.
//!
//! Every document is checked and placed before the first is appended. Each event is a commit of its own; an interrupted
//! batch is repeated as a whole, and what is there already is not added again.

use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use ensue::core::cloudevents::{self, Incoming, Parsed, ParsedCommand};
use ensue::core::{
    Code, ContentType, Error, EventId, EventType, Position, Source, Store, StreamName, Timestamp,
};
use ensue::runtime::Catalogue;
use ensue::runtime::door::{Admitted, Door};
use serde::Serialize;

use crate::command::Session;
use crate::document::{Document, blame};
use crate::failure::Failure;
use crate::known;
use crate::output::{Format, Row};
use crate::placement::{Placed, Places};

/// Append an event, once however often it is repeated
#[derive(Args)]
pub(crate) struct Emit {
    /// The type, where the document is only the data of an event
    #[arg(value_name = "TYPE")]
    event_type: Option<String>,
    /// CloudEvents JSON (one or an array), the plain shape, or with TYPE the data: a literal, @FILE, or - for standard input
    #[arg(short = 'd', long = "document", value_name = "@FILE|-|LITERAL", allow_hyphen_values = true)]
    document: String,
    /// The stream, for a type that no application has declared
    #[arg(long, value_name = "TOPIC/KEY")]
    stream: Option<String>,
    /// The event's id, where the document has none; repeating it adds nothing
    #[arg(long)]
    id: Option<String>,
    /// Who the event is from, where the document does not say it
    #[arg(long, default_value = "ensue-cli")]
    source: String,
    /// Check and place the event, but do not append it
    #[arg(long)]
    dry_run: bool,
}

/// What became of one event.
#[derive(Serialize)]
struct Emitted {
    id: EventId,
    source: Source,
    #[serde(rename = "type")]
    event_type: EventType,
    stream: StreamName,
    /// None in a rehearsal of an event that is not there yet.
    position: Option<Position>,
    repeated: bool,
    dry_run: bool,
}

impl Row for Emitted {
    const HEADINGS: &'static [&'static str] = &["position", "stream", "type", "id", "outcome"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.position.map(|position| position.to_string()).unwrap_or_default(),
            self.stream.to_string(),
            self.event_type.to_string(),
            self.id.to_string(),
            self.outcome().to_owned(),
        ]
    }
}

impl Emitted {
    fn outcome(&self) -> &'static str {
        match (self.repeated, self.dry_run) {
            (true, _) => "already",
            (false, false) => "appended",
            (false, true) => "would be appended",
        }
    }

    fn sentence(&self) -> String {
        let Self { event_type, id, stream, .. } = self;
        let preposition = if self.repeated { "in" } else { "to" };
        let place = self.position.map(|position| format!(" at position {position}")).unwrap_or_default();
        format!("{event_type} {id}: {} {preposition} {stream}{place}", self.outcome())
    }
}

impl Emit {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stream = self.stream.as_deref().map(str::parse::<StreamName>).transpose()?;
        let source = Source::new(&self.source)?;
        let document = Document::read(&self.document)?;
        let incoming = self.parse(&document)?;
        let is_array = document.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let is_list = is_array && !self.is_body(&document);
        let store = session.place.open_if_there().await?;
        let catalogues = match &store {
            Some(store) => Catalogue::load(store).await?,
            None => Vec::new(),
        };
        let registry = known::registry();
        let places = Places {
            registry: &registry,
            catalogues: &catalogues,
            stream: stream.as_ref(),
            source: &source,
            host: &session.host,
        };
        let placed =
            incoming.into_iter().map(|incoming| place(&places, incoming)).collect::<Result<Vec<_>, _>>()?;
        let emitted = if self.dry_run {
            rehearse(session, store, placed).await?
        } else {
            let store = match store {
                Some(store) => store,
                None => session.place.open_or_make().await?,
            };
            append(session, store, placed).await?
        };
        print(session, &emitted, is_list)
    }

    /// What the document holds: shapes that carry their type, or the data of one event.
    fn parse(&self, document: &Document) -> Result<Vec<Incoming>, Failure> {
        let bytes = document.bytes.as_slice();
        let Some(event_type) = &self.event_type else {
            let mut incoming = cloudevents::parse(bytes).map_err(|error| document.blame(error))?;
            self.name(&mut incoming)?;
            return Ok(incoming);
        };
        let event_type = EventType::new(event_type)?;
        cloudevents::json::check(bytes).map_err(|error| document.blame(error))?;
        if self.is_body(document) {
            let id = self.id.as_deref().map(EventId::new).transpose()?;
            return Ok(vec![Incoming::Event(Box::new(body(event_type, id, bytes)))]);
        }
        let mut incoming = cloudevents::parse(bytes).map_err(|error| document.blame(error))?;
        self.name(&mut incoming)?;
        let other = incoming.iter().find_map(|incoming| match incoming {
            Incoming::Event(event) if event.event_type != event_type => Some(&event.event_type),
            _ => None,
        });
        match other {
            Some(other) => Err(Error::new(
                Code::USAGE,
                format!("the document is of type {other}, but {event_type} was named"),
            )
            .with_fix("leave the type out: the document carries it")
            .into()),
            None => Ok(incoming),
        }
    }

    /// Whether the document is only the data of an event.
    fn is_body(&self, document: &Document) -> bool {
        self.event_type.is_some() && !has_shape(&document.bytes)
    }

    /// Gives the one event of the document the id of `--id`.
    fn name(&self, incoming: &mut [Incoming]) -> Result<(), Error> {
        let Some(id) = self.id.as_deref().map(EventId::new).transpose()? else { return Ok(()) };
        match incoming {
            [Incoming::Event(event)] if event.id.as_ref().is_none_or(|own| *own == id) => {
                event.id = Some(id);
                Ok(())
            }
            [Incoming::Event(_)] => Err(Error::new(
                Code::USAGE,
                format!("the document has an id of its own, which is not `{id}`"),
            )
            .with_fix("leave `--id` out")),
            _ => {
                Err(Error::new(Code::USAGE, "`--id` names one event, but the document holds something else"))
            }
        }
    }
}

/// Whether the text is an object that says which shape it has, or an array of those.
fn has_shape(bytes: &[u8]) -> bool {
    let value = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let first = value.as_array().and_then(|elements| elements.first()).unwrap_or(&value);
    first.get("specversion").is_some() || (first.get("event_type").is_some() && first.get("data").is_some())
}

fn body(event_type: EventType, id: Option<EventId>, data: &[u8]) -> Parsed {
    Parsed {
        id,
        source: None,
        event_type,
        schema_version: None,
        time: None::<Timestamp>,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: Bytes::copy_from_slice(data.trim_ascii()),
        subject: None,
        partition_key: None,
        topic: None,
        position: None,
        stream_version: None,
        recorded_at: None,
    }
}

fn place(places: &Places<'_>, incoming: Incoming) -> Result<Placed, Failure> {
    match incoming {
        Incoming::Event(event) => {
            let (name, data) = (format!("data of {}", event.event_type), event.data.clone());
            places.place(*event).map_err(|error| blame(&name, &data, error))
        }
        Incoming::Command(command) => Err(refused(&command).into()),
    }
}

fn refused(command: &ParsedCommand) -> Error {
    Error::new(
        Code::COMMAND_UNHANDLED,
        format!("{} is a command, and no application is running here to answer it", command.command_type),
    )
    .with_fix("commands are sent inside of an application, with `App::dispatch`; `emit` takes events")
}

async fn append(
    session: &Session,
    store: Arc<dyn Store>,
    placed: Vec<Placed>,
) -> Result<Vec<Emitted>, Failure> {
    check_size(&store, &placed)?;
    let window = Catalogue::longest_window(&Catalogue::load(&store).await?);
    let door = Door::new(store, session.host.clone()).window(window);
    let mut emitted = Vec::new();
    for placed in placed {
        let admitted = door.admit(placed.stream.clone(), placed.envelope.clone()).await?;
        emitted.push(outcome(placed, Some(admitted), false));
    }
    Ok(emitted)
}

async fn rehearse(
    session: &Session,
    store: Option<Arc<dyn Store>>,
    placed: Vec<Placed>,
) -> Result<Vec<Emitted>, Failure> {
    let Some(store) = store else {
        return Ok(placed.into_iter().map(|placed| outcome(placed, None, true)).collect());
    };
    check_size(&store, &placed)?;
    let door = Door::new(store, session.host.clone());
    let mut emitted = Vec::new();
    for placed in placed {
        let admitted = door.look(&placed.stream, &placed.envelope).await?;
        emitted.push(outcome(placed, admitted, true));
    }
    Ok(emitted)
}

/// An array is refused as a whole if one of its events would be: half of a batch helps nobody.
fn check_size(store: &dyn Store, placed: &[Placed]) -> Result<(), Error> {
    let bytes_max = store.capabilities().event_bytes_max;
    let large = placed.iter().find(|placed| placed.envelope.size() > bytes_max);
    large.map_or(Ok(()), |Placed { envelope, .. }| {
        let message =
            format!("{} has {} bytes, at most {bytes_max} are allowed", envelope.id, envelope.size());
        Err(Error::new(Code::TOO_LARGE, message))
    })
}

fn outcome(placed: Placed, admitted: Option<Admitted>, dry_run: bool) -> Emitted {
    let Placed { stream, envelope } = placed;
    Emitted {
        id: envelope.id,
        source: envelope.source,
        event_type: envelope.event_type,
        stream,
        position: admitted.map(|admitted| admitted.position),
        repeated: admitted.is_some_and(|admitted| admitted.repeated),
        dry_run,
    }
}

fn print(session: &mut Session, emitted: &[Emitted], is_list: bool) -> Result<(), Failure> {
    match emitted {
        [one] if !is_list || session.output.format() == Format::Table => {
            session.output.one(one, &one.sentence())?;
        }
        all => session.output.all(all)?,
    }
    Ok(())
}
