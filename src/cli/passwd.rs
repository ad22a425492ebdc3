//! `moteway passwd FILE USER`: the password file of `[auth]`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::broker::login::hash::{PasswordHash, SALT_BYTES};
use crate::broker::login::users::{Users, check_name};
use crate::cli::Failure;
use crate::sys;

/// What MQTT can carry.
const MAX_PASSWORD_BYTES: usize = 65_535;

/// Sets or deletes a user's password. On a terminal it is asked for twice; otherwise it is the first line of standard
/// input. A running gateway reads the file again on SIGHUP.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The password file
    file: PathBuf,
    /// The user's name
    user: String,
    /// Delete the user
    #[arg(short = 'D', long)]
    delete: bool,
    /// Make the file when there is none
    #[arg(short, long, conflicts_with = "delete")]
    create: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |error: String| Failure::Failed(format!("{}: {error}", args.file.display()));
    check_name(&args.user).map_err(|error| Failure::Failed(error.to_owned()))?;
    let old = match fs::read(&args.file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && args.create => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !args.delete => {
            return Err(failed("there is no such file; --create makes it".to_owned()));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let entry = if args.delete { None } else { Some(format!("{}:{}", args.user, new_hash()?)) };
    let (new, was_there) = with_entry(&old, &args.user, entry.as_deref());
    if args.delete && !was_there {
        return Err(failed(format!("there is no user {:?}", args.user)));
    }
    replace(&args.file, &new).map_err(|error| failed(error.to_string()))?;
    if let Err(error) = Users::parse(&new) {
        eprintln!("moteway: warning: {}:{}: {}", args.file.display(), error.line, error.message);
    }
    Ok(())
}

fn new_hash() -> Result<PasswordHash, Failure> {
    let password = ask().map_err(Failure::Failed)?;
    let salt = sys::random_bytes::<SALT_BYTES>();
    let salt = salt.map_err(|error| Failure::Failed(format!("the system has no random numbers: {error}")))?;
    PasswordHash::create(&password, salt).map_err(|error| Failure::Failed(error.to_string()))
}

/// The file with the user's line replaced, added or taken out; all other lines stay. And whether it had one.
fn with_entry(text: &[u8], user: &str, entry: Option<&str>) -> (Vec<u8>, bool) {
    let is_of_user = |line: &[u8]| line.strip_prefix(user.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
    let mut entry = entry.map(str::as_bytes);
    let mut new = Vec::with_capacity(text.len() + 256);
    let mut was_there = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if !is_of_user(line) {
            new.extend_from_slice(line);
            continue;
        }
        was_there = true;
        // Where it was twice, it is there once now.
        if let Some(entry) = entry.take() {
            new.extend_from_slice(entry);
            new.push(b'\n');
        }
    }
    if let Some(entry) = entry {
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.push(b'\n');
        }
        new.extend_from_slice(entry);
        new.push(b'\n');
    }
    (new, was_there)
}

/// Replaces the file in one step, so that nobody ever sees half of it. A new one is for its owner alone; one that was
/// there keeps its owner and its group, who may be the gateway's, but is for nobody else.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(path.to_owned()),
        _ => Err(error),
    })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_new(&new, text, &path).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // It may never have been made.
        fs::remove_file(&new).ok();
        return written;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn write_new(new: &Path, text: &[u8], old: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    if let Ok(old) = fs::metadata(old) {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o060 | 0o600))?;
    }
    file.write_all(text)?;
    file.sync_all()
}

/// The new password, from whoever sits there or from standard input.
fn ask() -> Result<Zeroizing<Vec<u8>>, String> {
    let stdin = io::stdin();
    let unreadable = |error: io::Error| format!("standard input cannot be read: {error}");
    let mut input = File::from(stdin.as_fd().try_clone_to_owned().map_err(unreadable)?);
    let password = if stdin.is_terminal() {
        let _silence =
            Silence::of(&input).map_err(|error| format!("the terminal cannot be told to be silent: {error}"))?;
        let first = prompt(&mut input, "New password: ").map_err(unreadable)?;
        if prompt(&mut input, "Once more: ").map_err(unreadable)? != first {
            return Err("the two passwords differ; nothing was changed".to_owned());
        }
        first
    } else {
        read_line(&mut input).map_err(unreadable)?
    };
    match password.len() {
        0 => Err("an empty password is refused; nothing was changed".to_owned()),
        1..=MAX_PASSWORD_BYTES => Ok(password),
        _ => Err(format!("a password has at most {MAX_PASSWORD_BYTES} bytes; nothing was changed")),
    }
}

fn prompt(input: &mut File, text: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    eprint!("{text}");
    let line = read_line(input);
    eprintln!();
    line
}

/// One line without its end, and without a buffer that would keep it.
fn read_line(input: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD_BYTES + 2));
    let mut byte = Zeroizing::new([0]);
    while line.len() < MAX_PASSWORD_BYTES + 2 && input.read(&mut *byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    line.pop_if(|last| *last == b'\r');
    Ok(line)
}

/// A terminal that does not show what is typed, as long as this lives.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn of(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        let terminal = terminal.try_clone()?;
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nobody to tell when the terminal is gone.
        tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_replaced_where_it_is_and_all_others_stay() {
        let text = b"# people\nann:1\nannette:2\n\nbob:3";
        let new = |user, entry| {
            let (new, was_there) = with_entry(text, user, entry);
            (String::from_utf8(new).unwrap(), was_there)
        };
        assert_eq!(new("ann", Some("ann:9")), ("# people\nann:9\nannette:2\n\nbob:3".to_owned(), true));
        assert_eq!(new("bob", Some("bob:9")), ("# people\nann:1\nannette:2\n\nbob:9\n".to_owned(), true));
        assert_eq!(new("eve", Some("eve:9")), ("# people\nann:1\nannette:2\n\nbob:3\neve:9\n".to_owned(), false));
        assert_eq!(new("ann", None), ("# people\nannette:2\n\nbob:3".to_owned(), true));
        assert!(!new("eve", None).1);
        assert_eq!(with_entry(b"a:1\nb:2\na:3\n", "a", Some("a:9")).0, b"a:9\nb:2\n");
        assert_eq!(with_entry(b"", "a", Some("a:9")).0, b"a:9\n");
    }
}
