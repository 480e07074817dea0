//! Every error code, defined once: number, kind, title, why it happens, how to mend it.
//!
//! `docs/errors/*.md` and `ensue explain` are made from this table.

use std::fmt;
use std::str::FromStr;

use super::{Error, Kind};

/// A stable error number such as `E0201`. Codes are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u16);

struct Entry {
    code: Code,
    constant: &'static str,
    kind: Kind,
    title: &'static str,
    why: &'static str,
    fix: &'static str,
}

macro_rules! codes {
    ($($name:ident $number:literal $kind:ident $title:literal $why:literal $fix:literal)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Self = Self($number);)*
        }
        const ENTRIES: &[Entry] = &[
            $(Entry { code: Code::$name, constant: stringify!($name), kind: Kind::$kind, title: $title, why: $why, fix: $fix },)*
        ];
    };
}

codes! {
    // 01xx: what came in breaks a rule
    INVALID_NAME 101 Invalid "a name breaks its rule"
        "Names of streams, types, tags and handlers travel into file formats, URLs and brokers, so each has a rule that is checked where the name is made."
        "The message quotes the name and says which bytes are allowed; change the name."
    INVALID_JSON 102 Invalid "the document is not JSON"
        "The text could not be parsed as JSON; the message gives line and column."
        "Check the document with a JSON validator; mind trailing commas and quotes."
    INVALID_EVENT 103 Invalid "the document is JSON, but no event or command"
        "An attribute is missing or has a wrong type, for CloudEvents JSON or for the plain shape {event_type, event_id, timestamp, data}."
        "The message names the attribute; add or correct it."
    UNKNOWN_TYPE 104 Invalid "the event type is not known here"
        "The type is not registered by any application that has run on this store, so its topic and key cannot be derived."
        "Check the spelling, or name the stream yourself with `--stream TOPIC/KEY`."
    INVALID_BODY 105 Invalid "the body does not fit its type"
        "The data of an event or command could not be decoded into the type that its name and version stand for; the message gives the path inside the document."
        "Correct the field that the message names; for stored events add a default or an upcast to the type."
    RULE_BROKEN 106 Invalid "the data breaks a rule of its type"
        "The document has the right shape but its values contradict each other or are out of range, such as a total that is not the sum of the items, or money with three decimals."
        "The message names the field and the value that was expected."
    TOO_LARGE 107 Full "the event is too large"
        "Events are facts, not files: the limit protects every other reader and writer of the log."
        "Store the large object elsewhere and put its address into the event; `ensue stat` shows the limit."
    RESERVED 108 Denied "the name is reserved"
        "Topics that begin with `command.`, `dead.`, `ensue.` or `saga.` are written by Ensue itself; a foreign event in them would break a running saga."
        "Use another topic."
    INVALID_COMMIT 109 Invalid "the commit breaks a rule"
        "A commit has the wrong shape whatever the store holds: an append without events, a record key that is empty or too long, or one record written twice."
        "The message names the append or record; correct the code that builds the commit."
    NEWER_SCHEMA 110 Unsupported "the event is newer than this program"
        "The schema version of a stored event is higher than the newest one that this program knows, so a newer program has run on the store."
        "Run the newer program, or teach this one the version; nothing is lost, and parked events can be redriven then."
    INVALID_SCHEDULE 111 Invalid "this is no schedule"
        "A schedule is a cron expression of five fields and a time zone. One of them breaks its rule, or no year has such a day."
        "The message shows where; correct the expression where the schedule is mounted."

    // 02xx: somebody else was faster
    STALE_VERSION 201 Conflict "the stream has moved on"
        "The append expected a version that is not the stream's current one: another writer was faster, or the decision was made from old state."
        "Read the stream again, decide again, append with the new version."
    CONDITION_FAILED 202 Conflict "the condition of the append no longer holds"
        "An event that matches the condition's query was appended after the position that the decision was made from."
        "Read the query again, decide again, append with the new position."
    STALE_RECORD 203 Conflict "the record has moved on"
        "The write expected a revision that is not the record's current one; for a checkpoint this means that another process took the lane over."
        "Read the record again and retry; a lane stops by itself."
    DUPLICATE_ID 204 Conflict "the id was used before for something else"
        "An event or command with this source and id is already stored, and its body differs. The same id with the same body would have been a success."
        "Give the new event an id of its own."

    // 03xx: handlers
    HANDLER_FAILED 301 Failed "the handler returned an error"
        "The user's code answered with an error; after the retries of its policy the key is parked."
        "Read the cause, mend it, then `ensue dead redrive`."
    HANDLER_PANICKED 302 Failed "the handler panicked"
        "A panic counts as a failed attempt; the process goes on."
        "Read the message, mend the code, then `ensue dead redrive`."
    HANDLER_TIMED_OUT 303 Timeout "the handler took too long"
        "The attempt ran past the timeout of its handler and was cancelled."
        "Raise `.timeout(..)` where the handler is mounted, or make the call faster."
    KEY_PARKED 304 Failed "an earlier event of this key is parked"
        "To keep the order of its key, an event waits behind the one that failed."
        "Redrive or discard the parked key: `ensue dead ls`."
    DEAD_FULL 305 Full "the dead letters of this handler are full"
        "The bound on parked events is reached, so the lane has stopped instead of losing order or data."
        "`ensue dead ls` shows the groups; redrive or discard: when there is room, the lane goes on from its checkpoint by itself."
    REJECTED 306 Failed "the handler rejected the event"
        "The handler said that retrying is of no use, so the key was parked at once."
        "Read the reason, then redrive or discard."
    COMMAND_FAILED 307 Failed "the command was refused"
        "The command's handler answered with its typed failure."
        "The message holds the failure; it is an answer, not a fault."
    DEFERRED 308 Failed "the delivery is deferred"
        "The handler asked to be left alone with the event until a time. Later events of its key wait behind it, in order."
        "Nothing to do: it is delivered again when it is due. `ensue timer ls` shows when, `ensue timer fire` does it now."
    TIMER_AWAITED 309 Denied "something waits for the timer"
        "A saga's instance or a deferred delivery goes on when the timer is due. Without it, it would wait for ever."
        "Let it be due at another time with `ensue timer reschedule`, or end what waits: cancel the saga, discard the delivery."
    BREAKER_OPEN 310 Unavailable "the breaker is open"
        "What the handler depends on has failed so often that it is not called at the moment. The message says since when, and how it failed."
        "Mend the dependency, or dispatch the command again later; deliveries from the log wait by themselves and go on when it is back."
    RATE_LIMITED 311 Unavailable "there is no turn for the command in time"
        "The handler may only be called so often, and as many commands wait for their turn as there are turns within the time the answer may take."
        "Dispatch it again later, allow it more time with `.within(..)`, or raise the `.rate(..)` or `.quota(..)` of the handler."
    VIEW_NOT_BUILT 320 Unavailable "the read model is not built by this code yet"
        "The live read model was built by another `VERSION` of the projection; that of this code is being built beside it, or has never run."
        "Wait until the build is done: `ensue projection ls` shows how far it is."
    FED_INLINE 321 Denied "the event is for aggregates alone"
        "An inline read model takes this event in the commit of the command that causes it; published, it would be shown later than the receipt says."
        "Send the command whose aggregate causes the event, or mount the read model without `.inline()`."
    NOT_KNOWN_YET 322 Invalid "the read model keeps what is not known yet"
        "An inline read model is computed before its events have a position or a time of record; a document that keeps one of them would differ from a rebuild."
        "Use the version or the time of the envelope, or mount the read model without `.inline()`."
    TABLES_APART 323 Corrupt "the tables of the read model and the log do not belong together"
        "Tables in another database carry the position of the log that they stand at. It is not where this log can have left them: the log or the tables were restored from a backup, or another log has fed the tables."
        "Bring both from the same moment, or build the tables anew from this log with a rebuild."
    TABLES_HELD 324 Conflict "something hangs on the tables of the read model"
        "A rebuild puts new tables in the place of the old ones. What is tied to an old table, such as a view, a trigger or a foreign key of another table, would be lost or keep showing the old rows."
        "Drop what the message names and make it anew after the rebuild, or make it a part of the application that reads the tables by their names."

    // 04xx: the store
    IN_USE 401 Unavailable "the data directory is in use"
        "One process owns a data directory at a time; another one holds its lock."
        "Stop the process that the message names, or use another directory with `--data DIR`."
    READ_ONLY 402 Denied "the data directory cannot be written"
        "The directory or its file system is read-only for this user."
        "Check owner and mount options, or run as the user who owns it."
    NEWER_FORMAT 403 Unsupported "the data directory was written by a newer version"
        "The superblock carries format bits that this version does not know; reading on could misread data."
        "Use the version of Ensue that wrote it, or newer."
    FULL 404 Full "there is no room for the append"
        "The disk is full or below the low-water mark. What was acknowledged is safe; reads go on."
        "Free space on the file system; appends continue without a restart."
    INCOMPLETE 405 Corrupt "files of the data directory are missing"
        "The superblock names files that are not there: part of the directory was deleted or not copied."
        "Restore the missing files from a backup; Ensue does not guess around them."
    NOT_A_STORE 406 NotFound "there is no store here"
        "The directory does not exist, or holds other files and no superblock."
        "Check `--data DIR`; `ensue demo` makes a store to play with."
    IO 407 Unavailable "the operating system refused a file operation"
        "A read, write or sync failed; the cause says which."
        "Read the cause. After a failed write the log stops taking appends until it is opened again."
    POISONED 408 Poisoned "the writer has stopped after a failed write"
        "After a failed write or sync the kernel may have dropped pages, so nothing more is acknowledged."
        "Check the disk, then open the store again: recovery finds what was acknowledged."
    CLOSED 409 Unavailable "the store is closed"
        "The call came after the store had begun to close."
        "Open it again."
    CORRUPT 412 Corrupt "acknowledged data is damaged"
        "A checksum or the chain of frames does not hold in a range that had been acknowledged; it is never cut off silently."
        "`ensue verify` shows where, in any store. Restore it from a backup. A row that was added by hand is taken back by the owner of the tables; under `Limits` the README of ensue-postgres says how."
    BUSY 413 Unavailable "something else is under way"
        "The message says what: the queue in front of the writer is at its bound in bytes; a read model is being built, or was moved on while it was compared; a database has ended the transaction for another one that was in its way; or the log has dropped events while a read model was built from it, which would have a hole."
        "Try again when that is over. Of the queue: wait for earlier commits to finish, or send fewer at once. Of a build that was given up: build it again, `ensue store trim` waits for a build that it sees."
    NOT_FOUND 414 NotFound "there is no such thing"
        "The stream, event, flow, saga or record does not exist in this store."
        "List what exists with the `ls` command of the same noun."
    OUTCOME_UNKNOWN 415 Timeout "the outcome of the commit is unknown"
        "The connection or the wait ended after the commit was sent and before its answer came: it was stored completely or not at all."
        "Repeat the same commit with the same ids and expected versions: where it was stored, the answer is the old positions. One that expects no version (`Expected::Any`, no `expected_version`) is appended again: read first whether its ids are there."
    NO_COPY 416 Conflict "the store is no copy of the other"
        "A copy goes on where it stopped, but the events that are there already are not those of the store that is copied, or somebody has written to it since."
        "Copy into an empty store, or into the one that an interrupted copy has begun."
    EVENTS_DROPPED 417 NotFound "the events were dropped"
        "The topic does not keep its events for ever, and what was asked for is made of events that are past their time and gone. Without them an aggregate would be another one, and a read model that is built anew would lack what it has made of them."
        "Keep the topics of aggregates for ever: `ensue store retain TOPIC --for-ever`. What is gone can only come from a backup. A read model is built without it by `ensue projection rebuild --without-dropped`."
    LOST_TAIL 418 Poisoned "the log has lost its end"
        "The database ends before a position that this process has seen there: it was restored from a backup, a standby took over that had not received everything, or the server was told not to wait for its disk. What was acknowledged behind that is gone, and what this process remembers of it is not true any more, so it does nothing more."
        "Start the process again: it goes on from what the database holds. Then have what is missing sent again by whoever it came from, and see that a commit waits for the standby (`synchronous_standby_names`)."

    DATABASE_URL 420 Invalid "the address of the database is not understood"
        "It is neither a URL such as `postgres://user@host/database` nor a line of `key=value` pairs, or it has an option that is unknown."
        "Read the cause, which names the part; special characters of a password are written `%XX`."
    DATABASE_UNREACHABLE 421 Unavailable "the database cannot be reached"
        "The connection was refused or broke, or the server is starting, stopping or out of connections. Calls go on trying for a while before they say so."
        "Check host and port and that the server runs; nothing that was acknowledged is lost."
    DATABASE_DENIED 422 Denied "the database refused the login or the right"
        "User or password are wrong, the server does not let this user in from here, or the user may not do what was tried."
        "Check the address. Who migrates, retains or trims needs to own the schema `ensue` and its tables, or, to migrate for the first time, CREATE on the database; what others need is in the table under `Rights` in the README of ensue-postgres."
    DATABASE_TOO_OLD 423 Unsupported "the server is too old"
        "The SQL of the store uses what came with PostgreSQL 15."
        "Use PostgreSQL 15 or newer."
    DATABASE_READ_ONLY 424 Denied "the database takes no writes"
        "The server is a replica, or its transactions are read-only by a setting of server, database or user; or the file of the database, or its folder, is read-only for this user."
        "PostgreSQL: connect to the primary (`target_session_attrs=read-write`), or mend `default_transaction_read_only`. SQLite: check owner, mode and mount of the file and its folder."
    DATABASE_SCHEMA 425 Unsupported "the schema of the database is not one that this program knows"
        "A newer program has migrated the tables of Ensue, or a migration was applied with another text."
        "Use the version of Ensue that migrated it, or newer."
    DATABASE_REFUSED 426 Failed "the database refused a statement"
        "The database answered with an error that Ensue does not expect; the message is the database's own."
        "Read the message; where tables of Ensue were changed by hand, restore them."
    DATABASE_TIMEOUT 427 Timeout "the database took too long"
        "A statement ran into its time-out, or another session held what it needs for longer than patience lasts."
        "`ensue store holds` names transactions that were left open; the same call may succeed later."
    DATABASE_TLS 428 Denied "the connection to the database cannot be made secure"
        "The server has no TLS, or its certificate is not one that the address asks for: of another authority, for another host, or expired. Or a file of a certificate or key cannot be read."
        "The message says which. Name the certificate of the authority with `sslrootcert=FILE`; `sslmode=verify-full` wants the host of the address in the server's certificate."
    DATABASE_LOCKED 430 Unavailable "another transaction holds the write lock of the file"
        "SQLite lets one transaction write at a time, and another one, of this or another process, went on for longer than patience lasts. Nothing was stored."
        "The message names who holds it, as far as the system says: end that transaction, and keep transactions short. The same call may succeed later."
    DATABASE_MOVED 431 Corrupt "the file of the database was replaced or deleted"
        "The path no longer names the file that was opened. What is written into the old one would go with it, so nothing more is taken."
        "Put the file back, or stop, then open the store again. Replace the file of a database only while nobody has it open."

    BUS_ADDRESS 440 Invalid "the address or the credentials of the broker are not understood"
        "The address is no URL that the broker's driver knows, a file of credentials or certificates cannot be read, or the certificates of the two sides do not fit."
        "Read the cause, which names the part."
    BUS_UNREACHABLE 441 Unavailable "the broker cannot be reached"
        "There is no connection at the moment; it is made again by itself. What was not confirmed is not published."
        "Check host and port and that the broker runs; the same call succeeds once it is back."
    BUS_DENIED 442 Denied "the broker refused the login or the right"
        "User, password, token or key are wrong, or the user may not do what was tried."
        "Check the credentials and what the broker lets them do."
    BUS_TIMEOUT 443 Timeout "the broker did not answer in time"
        "The message was sent and its confirmation did not come: the broker has it, or not."
        "Repeat it with the same id; where the broker knows duplicates, it keeps one."
    BUS_UNROUTABLE 444 NotFound "the broker has no place for this"
        "Nothing in the broker takes or keeps messages of this channel."
        "Declare the topology, or make the place with the broker's own tools."
    BUS_TOPOLOGY 445 Conflict "the broker is otherwise than the topology needs"
        "Something of this name is there already, with settings under which the promises would not hold. It is never changed by Ensue."
        "Change it with the broker's own tools, or use another name."
    BUS_REFUSED 446 Failed "the broker refused the request"
        "The broker answered with an error that Ensue does not expect; the message is the broker's own."
        "Read the message; limits of the account or the disk are the usual reasons."
    BUS_TOO_LATE 447 Conflict "the message can no longer be settled"
        "Its time to be settled is over, or it was settled before, or the connection that delivered it is gone."
        "Nothing: it is delivered again where it was not settled. Allow more time where this is frequent."
    UNREADABLE 448 Invalid "a message of a broker cannot be read as an event"
        "It is no CloudEvents event, and the link does not say where its type, topic or key is found, or it is not found there. The message is kept as it came."
        "Mend the configuration of the link and `ensue dead redrive` the message, or `ensue dead discard` it."

    // 05xx: the application does not hold together
    DUPLICATE_HANDLER 501 Invalid "two handlers share a name"
        "A handler's name owns its checkpoints; two handlers would steal each other's events."
        "Give each handler a name of its own."
    COMMAND_UNHANDLED 502 Invalid "a command has no handler"
        "A saga or relay sends this command, but nothing in the application answers it."
        "Mount a handler with `.handle(..)` or an aggregate that takes it."
    COMMAND_CONTESTED 503 Invalid "a command has two handlers"
        "A command is answered by exactly one handler."
        "Remove one of them."
    NEVER_PRODUCED 504 Invalid "an event is consumed but never produced"
        "Nothing in the application emits it, no saga returns it, and no intake brings it in, so the handler would wait for ever."
        "Correct the type, mount its producer, or declare that it comes from outside with `.external::<Event>()`."
    DUPLICATE_TYPE 505 Invalid "two events share a name"
        "Two Rust types claim the same event type with different topics or versions."
        "Rename one of them."
    UNSUPPORTED 506 Unsupported "the backend cannot do this"
        "The store or bus lacks a capability that the application needs."
        "The message says which capability, and what to use instead."
    NO_STATE 507 Invalid "a handler asks for state that was not given"
        "`State<T>` is looked up by type, and no `.state(value)` of this type was given to the application."
        "Add `.state(..)` with a value of the type in the message."
    LIMIT_CONTESTED 508 Invalid "two handlers disagree about a limit that they share"
        "Handlers that name the same breaker or rate share it, so its settings must be the same at each of them."
        "Make one value, such as a `const fn` or a variable, and give it to both; or give one of them another name."
    NOT_INLINE 509 Invalid "a read model cannot be inline"
        "Something besides a mounted aggregate causes events that feed it, so they could be appended without it."
        "Let a command of the aggregate cause the event, or mount the read model without `.inline()`."
    LINK_INVALID 510 Invalid "a link does not hold together"
        "What was said of the link contradicts itself or cannot work: the message says what."
        "Correct what the message names; `ensue link check` looks at all links without moving anything."

    // 06xx: sagas
    SAGA_MISMATCH 601 Failed "the saga's code no longer fits its journal"
        "Replaying the journal asked for another step than the one recorded; going on would repeat or skip an effect."
        "Bring back the old order of steps for running instances, or pin a version."
    SAGA_UNDO_FAILED 602 Failed "a compensation failed"
        "Undoing a finished step was refused or ran out of retries; the saga waits for a decision."
        "`ensue saga show` lists what is undone and what is not."
    SAGA_DEADLINE 603 Timeout "a saga waited longer than it may"
        "A step or an awaited event did not arrive within its deadline."
        "This is an outcome the saga handles: by default it compensates."
    SAGA_STEP_FAILED 604 Failed "a step of a saga failed for good"
        "The command was refused, or the step ran out of retries."
        "The saga undoes its finished steps in reverse order."
    SAGA_CANCELLED 605 Failed "a saga was cancelled"
        "An operator asked that the instance go back; the reason is in its journal."
        "The saga undoes its finished steps in reverse order; past the point of no return it waits for a decision."
    SAGA_NOT_SO 606 Conflict "the saga does not stand where the request fits"
        "What was asked of the instance has no meaning where it stands now: it is over, not paused, or past its point of no return."
        "`ensue saga show` says where it stands."
    SAGA_UNKNOWN 607 Timeout "the outcome of a step is unknown"
        "No answer came within the step's time, and the step says that a person decides then: it may be done, or not."
        "Find out, then `ensue saga resolve` with the outcome, or `ensue saga retry` under the same idempotency key."

    // 07xx: the command line
    USAGE 701 Invalid "the command line is not understood"
        "An argument is missing, unknown or contradicts another."
        "`ensue help COMMAND` shows the arguments."
    CHECK_FAILED 702 Failed "the check found differences"
        "The command compared what is with what should be, and they differ; the output lists where."
        "Read the listed differences."
}

impl Code {
    /// Every code, in order.
    pub fn all() -> impl Iterator<Item = Code> {
        ENTRIES.iter().map(|entry| entry.code)
    }

    fn entry(self) -> &'static Entry {
        ENTRIES.iter().find(|entry| entry.code == self).expect("codes are only made by the table")
    }

    /// What the code is called in a program.
    pub(super) fn constant(self) -> &'static str {
        self.entry().constant
    }

    /// What sort of failure it is.
    pub fn kind(self) -> Kind {
        self.entry().kind
    }

    /// The headline.
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// Why it happens.
    pub fn why(self) -> &'static str {
        self.entry().why
    }

    /// What to do.
    pub fn fix(self) -> &'static str {
        self.entry().fix
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Code {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self, Error> {
        let digits = input.trim_start_matches(['E', 'e']);
        let code = digits.parse().ok().map(Code);
        code.filter(|code| ENTRIES.iter().any(|entry| entry.code == *code)).ok_or_else(|| {
            Error::new(Code::NOT_FOUND, format!("there is no error code `{input}`"))
                .with_fix("codes look like E0201; `ensue explain` lists them")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted() {
        let codes: Vec<Code> = Code::all().collect();
        assert!(codes.windows(2).all(|pair| matches!(pair, [a, b] if a < b)), "{codes:?}");
    }

    #[test]
    fn a_code_parses_as_it_prints() {
        for code in Code::all() {
            assert_eq!(code.to_string().parse::<Code>().expect("its own text"), code);
        }
        assert_eq!("E9999".parse::<Code>().expect_err("no such code").code(), Code::NOT_FOUND);
    }
}
