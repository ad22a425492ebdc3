//! The files behind `[auth]`: read at start, by `moteway check`, and again when asked.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::broker::login::Keys;
use crate::broker::login::users::{LineError, Users};
use crate::config::Auth;
use crate::engine::{Credentials, Input};
use crate::io::Driver;
use crate::io::tls::Reload;
use crate::sys;

/// A larger file is none of ours.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What is wrong with a file, and where.
#[derive(Debug)]
pub struct CredentialsError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl CredentialsError {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self { path: path.to_owned(), line: None, message: error.to_string() }
    }

    fn at(path: &Path, LineError { line, message }: LineError) -> Self {
        Self { path: path.to_owned(), line: Some(line), message }
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.message),
            None => write!(f, "{} cannot be read: {}", self.path.display(), self.message),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// Reads and checks all files that `[auth]` names.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(auth: &Auth) -> Result<Credentials, CredentialsError> {
    let mut credentials = Credentials::default();
    if let Some(path) = &auth.password_file {
        credentials.users = Users::parse(&bytes(path)?).map_err(|error| CredentialsError::at(path, error))?;
    }
    let mut keys = Keys::default();
    let jwt = auth.jwt.as_ref();
    if let Some(path) = jwt.and_then(|jwt| jwt.secret_file.as_ref()) {
        keys.add_secret(bytes(path)?).map_err(|error| CredentialsError::at(path, error))?;
    }
    if let Some(path) = jwt.and_then(|jwt| jwt.public_key_file.as_ref()) {
        keys.add_pem(&bytes(path)?).map_err(|error| CredentialsError::at(path, error))?;
    }
    credentials.keys = Arc::new(keys);
    credentials.seed =
        sys::random_bytes().map_err(|error| CredentialsError::unreadable(Path::new("/dev/urandom"), &error))?;
    Ok(credentials)
}

fn bytes(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let unreadable = |error| CredentialsError::unreadable(path, &error);
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("it is too large")));
    }
    fs::read(path).map_err(unreadable)
}

/// Whether there is anything that log-ins are checked against.
pub(super) fn is_wanted(auth: &Auth) -> bool {
    auth.password_file.is_some() || auth.jwt.is_some()
}

/// The files of `[auth]`, which the engine is told of when they are read again. Who is in stays in.
pub(super) struct LoginFiles {
    driver: Rc<Driver>,
    auth: Auth,
}

impl LoginFiles {
    /// They were read just now.
    pub(super) fn new(driver: Rc<Driver>, auth: Auth) -> Self {
        Self { driver, auth }
    }
}

impl Reload for LoginFiles {
    fn files(&self) -> Vec<&Path> {
        let jwt = self.auth.jwt.as_ref();
        let keys = jwt.map(|jwt| [&jwt.secret_file, &jwt.public_key_file]);
        keys.into_iter().flatten().chain([&self.auth.password_file]).filter_map(Option::as_deref).collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
        let credentials = read(&self.auth)?;
        self.driver.input(Input::Credentials(credentials));
        Ok(())
    }
}
