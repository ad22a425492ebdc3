//! `moteway restore FILE`: what a backup has, back in its place, on this box or on another.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use crate::cli::backup::archive::{self, Entry};
use crate::cli::backup::{FILES, MANIFEST, Manifest, STORE};
use crate::cli::{Failure, print};

/// Of the manifest.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// Puts messages, configuration and secrets of a backup back where they were. The gateway must not run; what is there
/// already is left alone, unless --force is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Below this directory instead of /, for a system that is not the running one
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("{}: {error}", args.file.display()));
    let mut input = BufReader::new(File::open(&args.file).map_err(failed)?);
    let manifest = manifest(&mut input).map_err(failed)?;
    let state_dir = below(&args.root, &manifest.state_dir).map_err(failed)?;
    let store = state_dir.join("moteway.db");
    if store.exists() && !args.force {
        let there = store.display();
        return Err(Failure::Failed(format!(
            "{there} is there: --force replaces it, and its messages are gone then"
        )));
    }
    let _lock = crate::store::claim(&state_dir).map_err(|error| Failure::Failed(error.to_string()))?;
    let (mut restored, mut kept) = (Vec::new(), Vec::new());
    while let Some(entry) = archive::next(&mut input).map_err(failed)? {
        let is_store = entry.name == STORE;
        let to = match entry.name.strip_prefix(FILES) {
            _ if is_store => store.clone(),
            Some(path) => below(&args.root, Path::new(path)).map_err(failed)?,
            None => return Err(failed(io::Error::other(format!("{:?} is none of a backup's files", entry.name)))),
        };
        let mut content = Read::take(&mut input, entry.bytes);
        if is_store || args.force || !to.exists() {
            put(&to, &entry, &mut content, is_store).map_err(failed)?;
            restored.push(to);
        } else {
            kept.push(to);
        }
        let left = content.limit() + archive::padding(entry.bytes) as u64;
        io::copy(&mut Read::take(&mut input, left), &mut io::sink()).map_err(failed)?;
    }
    if args.json {
        return print(&format!("{}\n", json!({ "restored": restored, "kept": kept })));
    }
    let line = |what: &str, path: &PathBuf| format!("{what}  {}\n", path.display());
    let lines = restored.iter().map(|path| line("restored", path));
    print(&lines.chain(kept.iter().map(|path| line("kept    ", path))).collect::<String>())
}

fn manifest(input: &mut impl Read) -> io::Result<Manifest> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "this is no backup of moteway");
    let entry = archive::next(input)?.ok_or_else(bad)?;
    if entry.name != MANIFEST || entry.bytes > MAX_MANIFEST_BYTES {
        return Err(bad());
    }
    let mut text = Vec::new();
    let whole = entry.bytes + archive::padding(entry.bytes) as u64;
    input.take(whole).read_to_end(&mut text)?;
    let length = usize::try_from(entry.bytes).unwrap_or(usize::MAX).min(text.len());
    serde_json::from_slice(&text[..length]).map_err(|_| bad())
}

/// An absolute path, below a directory. None leads out of it.
fn below(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut to = root.to_owned();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => to.push(name),
            _ => return Err(io::Error::other(format!("{} is not a whole path", path.display()))),
        }
    }
    Ok(to)
}

/// Writes a file beside its place, and puts it there when it is whole. The store belongs to whom its directory does.
fn put(to: &Path, entry: &Entry, content: &mut impl Read, is_store: bool) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", to.display()));
    let directory = to.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(named)?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".restored");
    let new = to.with_file_name(name);
    let mut write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(entry.mode).open(&new)?;
        if io::copy(content, &mut file)? != entry.bytes {
            return Err(io::Error::other("the backup is cut off"));
        }
        file.flush()?;
        file.sync_all()?;
        let owner = if is_store {
            let directory = fs::metadata(directory)?;
            (directory.uid(), directory.gid())
        } else {
            entry.owner
        };
        let has = file.metadata()?;
        // Only root can give files away; whoever else restores keeps them.
        if (has.uid(), has.gid()) != owner && nix::unistd::geteuid().is_root() {
            chown(&new, Some(owner.0), Some(owner.1))?;
        }
        if is_store {
            // The log of what was there before is none of it.
            for companion in ["moteway.db-wal", "moteway.db-shm"] {
                match fs::remove_file(directory.join(companion)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        fs::rename(&new, to)
    };
    write().map_err(named)
}
