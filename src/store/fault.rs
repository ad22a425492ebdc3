//! What can go wrong with an open file, sorted by what is done about it.

use std::fmt;

use rusqlite::ErrorCode;

/// Why an operation on the file failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite or the system below it refused: full, read-only, input or output error. The file is as before.
    Sqlite(rusqlite::Error),
    /// The file contradicts itself.
    Damaged(String),
    /// What was asked for cannot be done to a correct queue; the caller is wrong, the file is as before.
    Refused(String),
    /// A later version wrote the file.
    Newer(i64),
}

impl Fault {
    /// Whether the file is full, by its own limit or the disk's.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(f, "{error}"),
            Self::Damaged(what) => write!(f, "the store file is damaged ({what}); a restart repairs it"),
            Self::Refused(what) => f.write_str(what),
            Self::Newer(version) => write!(f, "written by a later version (schema {version})"),
        }
    }
}
