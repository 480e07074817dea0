//! The server that is measured on, and the programs that put load on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::contender::{Contender, filling};
use crate::services::{self, Purpose, postgres};

const TABLES: &str = include_str!("tables.sql");
/// How often what runs meanwhile is called, a second.
const MEANWHILE_RATE: &str = "100";

/// It runs with all that makes it durable.
pub(super) struct Server {
    root: PathBuf,
    url: String,
    folder: PathBuf,
}

impl Server {
    pub(super) fn up(root: &Path) -> Result<Self, String> {
        let service = services::find("postgres")?;
        let place = services::up(service, Purpose::Measurement)?;
        let variables = service.environment(&place);
        let url = variables.into_iter().find(|(name, _)| *name == "ENSUE_TEST_POSTGRES");
        let (_, url) = url.ok_or("PostgreSQL does not say where it is")?;
        let folder = root.join("target/bench-postgres");
        fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Self { root: root.to_owned(), url, folder })
    }

    pub(super) fn down() -> Result<(), String> {
        services::down(services::find("postgres")?, Purpose::Measurement)
    }

    /// What it says of itself.
    pub(super) fn version(&self) -> Result<String, String> {
        let version = psql(&self.url, "SHOW server_version")?;
        let settings = "SELECT string_agg(name || ' ' || current_setting(name), ', ') FROM unnest(ARRAY['fsync', \
            'synchronous_commit', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'wal_sync_method']) AS name";
        Ok(format!("PostgreSQL {version}; {}", psql(&self.url, settings)?))
    }

    /// A fresh database with all tables, so that no run meets what another has left.
    pub(super) fn fresh(&self) -> Result<String, String> {
        psql(&self.url, "DROP DATABASE IF EXISTS bench WITH (FORCE)")?;
        psql(&self.url, "CREATE DATABASE bench")?;
        let (before, after) = self.url.rsplit_once("/ensue").ok_or("the URL names a database")?;
        let url = format!("{before}/bench{after}");
        self.ensue(&url, &["store", "migrate"])?;
        psql(&url, TABLES)?;
        psql(&url, "CHECKPOINT")?;
        Ok(url)
    }

    /// Transactions a second, and the mean time of one in milliseconds.
    pub(super) fn load(&self, it: &Contender, sessions: u32, seconds: u32) -> Result<(f64, f64), String> {
        let url = self.fresh()?;
        let seconds = seconds.to_string();
        let meanwhile = it.meanwhile.map(|sql| {
            let script = self.script("meanwhile.sql", sql)?;
            let mut command = self.pgbench(&url, &script, 1)?;
            command.args(["-T", &seconds, "-R", MEANWHILE_RATE]);
            command.spawn().map_err(|error| format!("cannot run pgbench: {error}"))
        });
        let meanwhile: Option<Child> = meanwhile.transpose()?;
        let script = self.script("load.sql", &it.script())?;
        let mut command = self.pgbench(&url, &script, sessions)?;
        let said = said(command.args(["-T", &seconds]))?;
        if let Some(child) = meanwhile {
            let output =
                child.wait_with_output().map_err(|error| format!("cannot wait for pgbench: {error}"))?;
            completed(&output, "what runs meanwhile")?;
        }
        figures(&said)
    }

    /// Fills an outbox by as many sessions, not measured; then one reader takes everything through the port.
    pub(super) fn drain(&self, sessions: u32, events: u32) -> Result<String, String> {
        let url = self.fresh()?;
        let script = self.script("load.sql", &filling())?;
        said(self.pgbench(&url, &script, sessions)?.args(["-t", &(events / sessions).to_string()]))?;
        self.ensue(&url, &["bench", "drain"])
    }

    /// Commits through the port by so many callers at once.
    pub(super) fn commits(&self, callers: u32, seconds: u32) -> Result<String, String> {
        let url = self.fresh()?;
        let (callers, seconds) = (callers.to_string(), seconds.to_string());
        self.ensue(&url, &["bench", "append", "--clients", &callers, "--seconds", &seconds, "--size", "250"])
    }

    fn ensue(&self, url: &str, arguments: &[&str]) -> Result<String, String> {
        let data = self.folder.join("data");
        let mut command = Command::new(self.root.join("target/release/ensue"));
        command.args(["-o", "json", "--store", url, "--data"]).arg(data).args(arguments);
        said(&mut command)
    }

    fn pgbench(&self, url: &str, script: &Path, sessions: u32) -> Result<Command, String> {
        let mut command = Command::new(postgres::program("pgbench")?);
        let sessions = sessions.to_string();
        command.args(["-n", "-M", "prepared", "-c", &sessions, "-j", "1", "-f"]).arg(script).arg(url);
        command.current_dir(&self.folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.folder.join(name);
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(file)
    }
}

fn psql(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(postgres::program("psql")?);
    said(command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url]))
}

/// What a program prints; one that fails is an error with what it says.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    completed(&output, &format!("{command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn completed(output: &std::process::Output, what: &str) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// From what pgbench prints. A transaction that failed makes the whole run worthless.
fn figures(said: &str) -> Result<(f64, f64), String> {
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        number.ok_or_else(|| format!("pgbench says nothing of `{name}`: {said}"))
    };
    if value("number of failed transactions: ")? > 0.0 {
        return Err(format!("transactions failed: {said}"));
    }
    Ok((value("tps = ")?, value("latency average = ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_a_failed_transaction_makes_them_worthless() {
        let said = |failed: u32| {
            format!(
                "number of transactions actually processed: 10\nnumber of failed transactions: {failed} (0.000%)\n\
                 latency average = 1.125 ms\ninitial connection time = 9.0 ms\ntps = 14100.500000 (without initial connection time)\n"
            )
        };
        assert_eq!(figures(&said(0)), Ok((14_100.5, 1.125)));
        assert!(figures(&said(1)).is_err_and(|why| why.contains("failed")));
        assert!(figures("tps = 1").is_err());
    }
}
