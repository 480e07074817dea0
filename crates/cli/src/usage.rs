//! A command line that is not understood: what the parser says of it, as an error like every other.

use std::error::Error as _;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use ensue::core::{Code, Error};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Format;

/// Prints what the parser has to say: help on standard output, a refusal as `E0701`.
pub(crate) fn report(refused: &clap::Error, arguments: &[String]) -> ExitCode {
    if matches!(refused.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // `print!` would panic where the reader has gone, as `head` does.
        let printed = std::io::stdout().lock().write_all(refused.render().to_string().as_bytes());
        return match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => Failure::from(cause).report(format(arguments)),
        };
    }
    Failure::from(not_understood(refused, arguments)).report(format(arguments))
}

fn not_understood(refused: &clap::Error, arguments: &[String]) -> Error {
    let (path, subcommands) = command(arguments);
    if refused.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::new(Code::USAGE, format!("`{path}` needs to be told what to do"))
            .with_fix(format!("`{path} COMMAND` with one of {}", subcommands.join(", ")));
    }
    let help = format!("`{} help{}` says more", Arguments::command().get_name(), words_after_name(&path));
    // What our own types say of a value is an error with a fix already.
    if let Some(error) = refused.source().and_then(|source| source.downcast_ref::<Error>()) {
        let argument = text(refused, ContextKind::InvalidArg).unwrap_or_default();
        return Error::new(Code::USAGE, format!("{} for `{argument}`", error.message()))
            .with_fix(format!("{}; {help}", error.fix()));
    }
    let rendered = without_secrets(&refused.render().to_string(), arguments);
    let mut parts = rendered.trim_start_matches("error: ").split("\n\n").map(in_one_line);
    let wrong = parts.next().unwrap_or_default();
    let tip = parts.find_map(|part| part.strip_prefix("tip: ").map(str::to_owned));
    let tip = tip.map_or_else(String::new, |tip| format!("{tip}; "));
    Error::new(Code::USAGE, wrong).with_fix(format!("{tip}{help}"))
}

/// What the parser says, without arguments that may hold a password: it repeats what it does not understand.
fn without_secrets(rendered: &str, arguments: &[String]) -> String {
    let may_hold_one = |argument: &&String| {
        argument.contains("password=") || argument.contains(':') && argument.contains('@')
    };
    let secret = arguments.iter().filter(may_hold_one);
    secret.fold(rendered.to_owned(), |text, argument| text.replace(argument.as_str(), "…"))
}

fn text(refused: &clap::Error, kind: ContextKind) -> Option<&str> {
    match refused.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

fn in_one_line(paragraph: &str) -> String {
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The command that was meant, as far as it can be told, and what stands below it.
fn command(arguments: &[String]) -> (String, Vec<String>) {
    let root = Arguments::command();
    let (mut path, mut here) = (root.get_name().to_owned(), &root);
    for argument in arguments.iter().skip(1) {
        if let Some(below) = here.find_subcommand(argument) {
            path = format!("{path} {argument}");
            here = below;
        }
    }
    (path, here.get_subcommands().map(|below| below.get_name().to_owned()).collect())
}

fn words_after_name(path: &str) -> &str {
    path.find(' ').and_then(|space| path.get(space..)).unwrap_or_default()
}

/// The format that was asked for. The arguments could not be parsed, so it is looked up by hand.
fn format(arguments: &[String]) -> Format {
    let is_json = |argument: &str| matches!(argument.trim_start_matches('='), "json" | "jsonl");
    let in_one = |argument: &String| {
        let value = argument.strip_prefix("--output").or_else(|| argument.strip_prefix("-o"));
        value.is_some_and(is_json)
    };
    let in_two = |pair: &[String]| matches!(pair, [flag, value] if (flag == "-o" || flag == "--output") && is_json(value));
    let found = arguments.iter().any(in_one) || arguments.windows(2).any(in_two);
    if found { Format::Json } else { Format::Table }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn line(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_refused_command_line_is_answered_in_the_format_it_asked_for() {
        for json in
            ["ensue foo -o json", "ensue -ojson foo", "ensue --output=jsonl foo", "ensue --output json foo"]
        {
            assert_eq!(format(&line(json)), Format::Json, "{json}");
        }
        for table in ["ensue foo", "ensue foo json", "ensue foo -o table"] {
            assert_eq!(format(&line(table)), Format::Table, "{table}");
        }
    }

    #[test]
    fn what_is_wrong_is_one_sentence_and_what_to_do_another() {
        for (given, wrong, fix) in [
            (
                "ensue demo --style nope",
                "`nope` is not a style for `--style <STYLE>`",
                "use choreography, saga or both; `ensue help demo` says more",
            ),
            (
                "ensue demo --app nope",
                "invalid value 'nope' for '--app <APP>' [possible values: shop, bank]",
                "`ensue help demo` says more",
            ),
            (
                "ensue demo --orders 0",
                "invalid value '0' for '--orders <ORDERS>': 0 is not in 1..=10000000",
                "`ensue help demo` says more",
            ),
            (
                "ensue flow shwo",
                "unrecognized subcommand 'shwo'",
                "a similar subcommand exists: 'show'; `ensue help flow` says more",
            ),
        ] {
            let arguments = line(given);
            let Err(refused) = Arguments::try_parse_from(&arguments) else { panic!("{given} is understood") };
            let error = not_understood(&refused, &arguments);
            assert_eq!((error.code(), error.message(), error.fix()), (Code::USAGE, wrong, fix), "{given}");
        }
    }

    #[test]
    fn a_command_that_is_not_finished_is_told_how_it_can_go_on() {
        let arguments = line("ensue -q flow");
        let Err(refused) = Arguments::try_parse_from(&arguments) else { panic!("it is not finished") };
        let error = not_understood(&refused, &arguments);
        assert_eq!(error.message(), "`ensue flow` needs to be told what to do");
        assert!(
            error.fix().starts_with("`ensue flow COMMAND` with one of ls, show, stuck"),
            "{}",
            error.fix()
        );
    }
}
