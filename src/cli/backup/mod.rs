//! `moteway backup FILE` and `moteway restore FILE`: messages, configuration and secrets in one file.
//!
//! The running gateway copies its store page by page between two commits, so nobody waits for it. What is in the file
//! is what was acknowledged when the copy ended.

mod archive;
mod restore;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::backup::archive::Entry;
use crate::cli::remote::Remote;
use crate::cli::{Failure, count, load, print};
use crate::config::{Config, Document};
use crate::store::{Database, Options};

pub(super) use restore::{Args as RestoreArgs, run as restore};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup: a tar file for its owner alone, because keys and passwords are in it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The first file of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// Of moteway.
    version: String,
    config: PathBuf,
    state_dir: PathBuf,
}

const MANIFEST: &str = "moteway-backup.json";
const STORE: &str = "state/moteway.db";
/// Below it lie configuration and secrets, by their whole path.
const FILES: &str = "files";

#[derive(Deserialize)]
struct Snapshot {
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.remote.config();
    let config = load(path)?.config;
    let snapshot = match args.remote.post::<Snapshot>("/api/backup", &json!({})) {
        Ok(snapshot) => Source { path: snapshot.file, is_ours: true },
        Err(Failure::NotRunning(_)) => stopped(&config)?,
        Err(failure) => return Err(failure),
    };
    let files = files(path, &config)?;
    write(&args.file, path, &config, &snapshot.path, &files).map_err(|error| {
        // Half a backup is none.
        fs::remove_file(&args.file).ok();
        Failure::Failed(format!("cannot write {}: {error}", args.file.display()))
    })?;
    let bytes = fs::metadata(&args.file).map_or(0, |file| file.len());
    if args.json {
        return print(&format!("{}\n", json!({ "file": args.file, "bytes": bytes, "files": files })));
    }
    print(&format!("{}: {bytes} bytes, messages and {}\n", args.file.display(), count(files.len(), "file")))
}

/// The copy of the store. One that was made for us goes with us.
struct Source {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(&self.path)
        {
            eprintln!("moteway: warning: {} stays: {error}", self.path.display());
        }
    }
}

/// Nobody writes to it: opened and closed once, all is in one file.
fn stopped(config: &Config) -> Result<Source, Failure> {
    let failed = |error: String| Failure::Failed(error);
    let options = Options::new(&config.gateway.state_dir, &config.store);
    let (database, _) = Database::open(&options).map_err(|error| failed(error.to_string()))?;
    database.close().map_err(failed)?;
    Ok(Source { path: config.gateway.state_dir.join("moteway.db"), is_ours: false })
}

/// The configuration with its drop-ins, and all files that it names and that are there.
fn files(path: &Path, config: &Config) -> Result<Vec<PathBuf>, Failure> {
    let mut files: BTreeSet<PathBuf> = Document::files(path).map_err(Failure::NoConfig)?.into_iter().collect();
    for tls in config.listener.iter().filter_map(|listener| listener.tls.as_ref()) {
        files.extend([&tls.cert, &tls.key].into_iter().chain(&tls.client_ca).chain(&tls.crl).cloned());
    }
    for upstream in &config.upstream {
        files.extend(upstream.password_file.clone());
        let tls = upstream.tls.iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]);
        files.extend(tls.flatten().cloned());
    }
    files.extend(config.auth.password_file.clone());
    let keys = config.auth.jwt.iter().flat_map(|jwt| [&jwt.secret_file, &jwt.public_key_file]);
    files.extend(keys.flatten().cloned());
    files.extend(config.admin.token_file.clone());
    let whole = |file: PathBuf| fs::canonicalize(&file).ok();
    Ok(files.into_iter().filter_map(whole).collect())
}

fn write(to: &Path, path: &Path, config: &Config, store: &Path, files: &[PathBuf]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut out = BufWriter::new(file);
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: fs::canonicalize(path)?,
        state_dir: std::path::absolute(&config.gateway.state_dir)?,
    };
    let manifest = serde_json::to_vec(&manifest)?;
    let entry = Entry { name: MANIFEST.to_owned(), mode: 0o600, owner: (0, 0), bytes: manifest.len() as u64 };
    archive::put(&mut out, &entry, &mut &manifest[..])?;
    put(&mut out, STORE.to_owned(), store)?;
    for file in files {
        put(&mut out, format!("{FILES}{}", file.display()), file)?;
    }
    archive::finish(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()
}

fn put(out: &mut impl Write, name: String, path: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(named)?;
    let found = file.metadata().map_err(named)?;
    let entry = Entry { name, mode: found.mode(), owner: (found.uid(), found.gid()), bytes: found.len() };
    archive::put(out, &entry, &mut file)
}
