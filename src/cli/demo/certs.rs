//! Certificates for one run: a CA of its own, the cloud's certificate, and the gateway's.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::authority::{Authority, Pair, Use};

/// The name in the cloud's certificate.
pub(super) const CLOUD_NAME: &str = "localhost";

/// A run is over in a minute.
const DAYS: u32 = 1;

/// All PEM files of a run.
#[derive(Debug)]
pub(super) struct Certs {
    pub(super) ca: PathBuf,
    pub(super) cloud: Pair,
    pub(super) gateway: Pair,
}

impl Certs {
    /// Makes them, in `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self, Failure> {
        let authority = Authority::open(dir, DAYS)?;
        let issue = |file, name: &str, usage| authority.issue(dir, file, name, &[name.to_owned()], usage, DAYS);
        let cloud = issue("cloud", CLOUD_NAME, Use::Server)?;
        let gateway = issue("gateway", "demo", Use::Client)?;
        Ok(Self { ca: authority.cert, cloud, gateway })
    }
}
