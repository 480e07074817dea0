//! Secrets come from the environment or from files, never from the configuration itself or the command line.

use std::env;
use std::fs;
use std::path::Path;

use ensue::core::{Code, Error};

use super::wrong;

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| {
        let code = if cause.kind() == std::io::ErrorKind::NotFound { Code::NOT_FOUND } else { Code::IO };
        Error::new(code, format!("cannot read {}: {cause}", path.display()))
            .with_fix("check the path and who may read it")
            .with_source(cause)
    })
}

/// A value that is written out, or that `env:NAME` or `file:PATH` names.
pub(super) fn value(link: &str, what: &str, said: &str) -> Result<String, Error> {
    match said.split_once(':') {
        Some(("env", name)) => variable(link, what, name),
        Some(("file", path)) => Ok(read(Path::new(path))?.trim_end().to_owned()),
        _ => Ok(said.to_owned()),
    }
}

/// A secret from a variable or a file, where one of them is named.
pub(super) fn of(
    link: &str,
    what: &str,
    variable_name: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<String>, Error> {
    match (variable_name, file) {
        (None, None) => Ok(None),
        (Some(name), None) => variable(link, what, name).map(Some),
        (None, Some(file)) => Ok(Some(read(file)?.trim_end().to_owned())),
        (Some(_), Some(_)) => Err(wrong(
            format!("link {link} takes its {what} from a variable and from a file"),
            "keep one of them",
        )),
    }
}

fn variable(link: &str, what: &str, name: &str) -> Result<String, Error> {
    env::var(name).map_err(|_| {
        wrong(
            format!("link {link} takes its {what} from the variable `{name}`, which is not set"),
            "set it where the command runs",
        )
    })
}
