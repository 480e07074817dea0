//! `ensue explain [CODE]`: the page of an error code, or the list of all.

use clap::Args;
use ensue::core::{Code, error};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::Row;

/// The page of an error code, or all codes
#[derive(Args)]
pub(crate) struct Explain {
    /// The code, such as E0201
    code: Option<String>,
}

#[derive(Serialize)]
struct Explained {
    code: String,
    title: &'static str,
    why: &'static str,
    fix: &'static str,
}

impl Explained {
    fn of(code: Code) -> Self {
        Self { code: code.to_string(), title: code.title(), why: code.why(), fix: code.fix() }
    }
}

impl Row for Explained {
    const HEADINGS: &'static [&'static str] = &["code", "title"];

    fn cells(&self) -> Vec<String> {
        vec![self.code.clone(), self.title.to_owned()]
    }
}

impl Explain {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Some(code) = self.code else {
            let all: Vec<Explained> = Code::all().map(Explained::of).collect();
            return Ok(session.output.all(&all)?);
        };
        let code: Code = code.parse()?;
        session.output.one(&Explained::of(code), error::page(code).trim_end())?;
        Ok(())
    }
}
