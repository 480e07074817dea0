//! PostgreSQL, from the distribution's packages, and what its tests append with besides Rust. It refuses to run as root; then it
//! runs as the user `postgres`, which the package makes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cache::{self, Cache};
use super::place::Place;
use super::{Purpose, Service};

const PACKAGE: &str = "postgresql";
const PROGRAMS: &str = "/usr/lib/postgresql";
/// What tests put between a store and its server.
const POOLER: &str = "/usr/sbin/pgbouncer";
const DATABASE: &str = "ensue";
/// A Python with psycopg.
const PYTHON: &str = "psycopg-3.2.13";
const REQUIREMENTS: &str = include_str!("postgres/requirements.txt");

/// The service of this file.
pub(crate) struct Postgres;

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn ports(&self) -> &'static [u16] {
        &[21432]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        if programs().is_none() {
            cache::install_package(PACKAGE)?;
        }
        if !Path::new(POOLER).exists() {
            cache::install_package("pgbouncer")?;
        }
        cache.fill(PYTHON, |folder| cache::install_python(folder, REQUIREMENTS))
    }

    fn command(&self, _cache: &Cache, place: &Place) -> Result<Command, String> {
        let data = data(place);
        make(&data)?;
        if !data.join("PG_VERSION").exists() {
            initialise(&data)?;
        }
        certify(&data)?;
        let mut command = as_postgres(&program("postgres")?);
        command.arg("-D").arg(&data).args(["-p", &place.port(0).to_string()]);
        for setting in settings(place.purpose()) {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        let ask = |database: &str, sql: &str| {
            let program = program("psql").ok()?;
            let mut psql = Command::new(program);
            psql.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &place.port(0).to_string()]);
            let output = psql.args(["-Atq", "-c", sql, database]).stderr(Stdio::null()).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'");
        match ask("postgres", &count).as_deref() {
            Some("1") => true,
            Some(_) => ask("postgres", &format!("CREATE DATABASE {DATABASE}")).is_some(),
            None => false,
        }
    }

    /// TERM would wait for its clients to leave.
    fn stop_signal(&self) -> &'static str {
        "INT"
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        let url = format!("postgres://postgres@{}/{DATABASE}?sslmode=disable", place.address(0));
        let certificates = data(place).to_string_lossy().into_owned();
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("ENSUE_TEST_POSTGRES", url),
            ("ENSUE_TEST_POSTGRES_CERTIFICATES", certificates),
            ("ENSUE_TEST_POSTGRES_PROGRAMS", programs().map(text).unwrap_or_default()),
            ("ENSUE_TEST_PGBOUNCER", POOLER.to_owned()),
            ("ENSUE_TEST_PSQL", program("psql").map(text).unwrap_or_default()),
            (
                "ENSUE_TEST_PYTHON",
                Cache::location().map(|cache| text(cache::python(&cache.join(PYTHON)))).unwrap_or_default(),
            ),
        ]
    }
}

fn settings(purpose: Purpose) -> Vec<&'static str> {
    let always = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
        .into_iter()
        .chain(["ssl=on", "ssl_ca_file=ca.crt", "ssl_cert_file=server.crt", "ssl_key_file=server.key"]);
    let by_purpose: &[&str] = match purpose {
        // Safe against a killed server, not against a lost machine. `synchronous_commit` stays on: without it a server that is
        // killed forgets what it has acknowledged.
        Purpose::Tests => {
            &["fsync=off", "full_page_writes=off", "wal_level=logical", "max_prepared_transactions=20"]
        }
        // What a server of its own on two cores is usually given; all that makes it durable stays on.
        Purpose::Measurement => &[
            "shared_buffers=1GB",
            "max_wal_size=8GB",
            "checkpoint_timeout=15min",
            "wal_level=replica",
            "jit=off",
        ],
    };
    always.chain(by_purpose.iter().copied()).collect()
}

/// The programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).ok()?.flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max()?;
    Some(Path::new(PROGRAMS).join(newest.to_string()).join("bin"))
        .filter(|folder| folder.join("postgres").exists())
}

/// A program of the package.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    Ok(programs().ok_or("PostgreSQL is not installed")?.join(name))
}

/// In the folder of the service, or, where the user `postgres` cannot get there, below `/var/tmp`.
fn data(place: &Place) -> PathBuf {
    let wanted = place.data();
    if !is_root() || reaches(&wanted) {
        return wanted;
    }
    let name: String =
        wanted.to_string_lossy().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    Path::new("/var/tmp").join(format!("ensue-services{name}"))
}

fn reaches(folder: &Path) -> bool {
    as_postgres(Path::new("test")).arg("-x").arg(folder).status().is_ok_and(|status| status.success())
}

fn make(data: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot make {}: {error}", data.display());
    fs::create_dir_all(data).map_err(failed)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    if is_root() { cache::install("chown", &["postgres:postgres", &data.to_string_lossy()]) } else { Ok(()) }
}

fn initialise(data: &Path) -> Result<(), String> {
    let mut command = as_postgres(&program("initdb")?);
    command.arg("-D").arg(data).args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    let output = command.output().map_err(|error| format!("cannot run initdb: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Makes an authority, what it has signed for the server (valid for 127.0.0.1 and no name) and for a client, and an authority
/// that has signed nothing.
fn certify(data: &Path) -> Result<(), String> {
    let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    let server = [&signed[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat();
    for (name, options) in [
        ("ca", [].as_slice()),
        ("stranger", &[]),
        ("client", signed.as_slice()),
        ("server", server.as_slice()),
    ] {
        if data.join(format!("{name}.crt")).exists() {
            continue;
        }
        let mut command = as_postgres(Path::new("openssl"));
        command.current_dir(data).args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "3650"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={name}")]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]).args(options);
        let output = command.output().map_err(|error| format!("cannot run openssl: {error}"))?;
        if !output.status.success() {
            return Err(format!("openssl failed: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}
