//! Where installed servers are kept, one entry for each pinned version, and the installers that fill it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::need;

/// The folder of the cache. Whoever holds it is alone, so that two do not install the same thing at once.
pub(crate) struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Makes it, and waits for whoever else installs.
    pub(crate) fn open() -> Result<Self, String> {
        let folder = Self::location().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
        let failed = |error: std::io::Error| format!("cannot make {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(folder.join(".lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn location() -> Option<PathBuf> {
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        Some(base?.join("ensue-services"))
    }

    /// The entry of this name, whether it is there or not.
    pub(crate) fn entry(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fills an entry that is not there: all of it or nothing.
    pub(crate) fn fill(
        &self,
        name: &str,
        install: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let entry = self.entry(name);
        if entry.exists() {
            return Ok(());
        }
        eprintln!("services: installing {name}");
        let fresh = self.entry(&format!("{name}.new"));
        let failed = |error: std::io::Error| format!("cannot make {}: {error}", fresh.display());
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(failed)?;
        }
        fs::create_dir_all(&fresh).map_err(failed)?;
        install(&fresh)?;
        fs::rename(&fresh, &entry).map_err(failed)
    }
}

/// Runs an installer; its talk goes to standard error.
pub(crate) fn install(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1") // so that a Debian package does not start what it installs
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let talk = [output.stdout, output.stderr].concat();
    Err(format!("{program} {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&talk)))
}

/// Makes a Python of its own in the folder of an entry, with these requirements.
pub(crate) fn install_python(folder: &Path, requirements: &str) -> Result<(), String> {
    need("python3", "what is written in Python")?;
    let file = folder.join("requirements.txt");
    fs::write(&file, requirements).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    install("python3", &["-m", "venv", &folder.join("python").to_string_lossy()])?;
    let pip = ["-m", "pip", "install", "-q", "-r", &file.to_string_lossy()];
    install(&python(folder).to_string_lossy(), &pip)
}

/// The interpreter of an entry.
pub(crate) fn python(folder: &Path) -> PathBuf {
    folder.join("python/bin/python")
}

/// Installs a package of the distribution, which needs root or a `sudo` that does not ask.
pub(crate) fn install_package(package: &str) -> Result<(), String> {
    eprintln!("services: installing the package {package}");
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let apt = |arguments: &[&str]| {
        if is_root {
            return install("apt-get", arguments);
        }
        install("sudo", &[&["-n", "apt-get"], arguments].concat())
    };
    apt(&["-qq", "update"])?;
    apt(&["-qq", "install", "-y", "--no-install-recommends", package])
}
