//! `moteway certs DIR`: a development CA, and certificates for a listener, a client and an upstream.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::authority::{Authority, Use};
use crate::cli::{Failure, print};

/// Makes a CA for development and trials, and certificates for a listener, a client and the gateway at an upstream.
/// Once more in the same directory renews the certificates; the CA and all keys stay, so nobody has to be told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory, made when it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One more name or IP address by which clients reach the listener; may be given several times
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// The name in the client's certificate
    #[arg(long, value_name = "NAME", default_value = "client")]
    client: String,
    /// The name in the certificate that the gateway shows to an upstream
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    upstream: String,
    /// How long the certificates are good; the CA is good for ten years
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const CA_DAYS: u32 = 3650;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let dir = &args.dir;
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|error| Failure::Failed(format!("cannot make the directory {}: {error}", dir.display())))?;
    let authority = Authority::open(dir, CA_DAYS)?;
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(args.server.iter().cloned());
    let [client, upstream] = [&args.client, &args.upstream].map(|name| vec![name.clone()]);
    authority.issue(dir, "server", &names[0], &names, Use::Server, args.days)?;
    authority.issue(dir, "client", &args.client, &client, Use::Client, args.days)?;
    authority.issue(dir, "upstream", &args.upstream, &upstream, Use::Client, args.days)?;
    if args.json {
        let pair = |file: &str, names: &[String]| json!({ "cert": path(dir, file, "pem"), "key": path(dir, file, "key"), "names": names });
        let shown = json!({
            "ca": { "cert": authority.cert.display().to_string(), "key": path(dir, "ca", "key"), "new": authority.is_new },
            "server": pair("server", &names),
            "client": pair("client", &client),
            "upstream": pair("upstream", &upstream),
            "days": args.days,
        });
        return print(&format!("{shown}\n"));
    }
    let ca =
        if authority.is_new { "a CA for trials: who trusts it takes the others" } else { "the CA that was there" };
    let rows = [
        ("ca", ca.to_owned()),
        ("server", format!("for a listener: {}", names.join(", "))),
        ("client", format!("for a client: {}", args.client)),
        ("upstream", format!("for the gateway at an upstream: {}", args.upstream)),
    ];
    let rows = rows.map(|(file, what)| (format!("{}, .key", path(dir, file, "pem")), what));
    let width = rows.iter().map(|(files, _)| files.len()).max().unwrap_or_default();
    print(&rows.map(|(files, what)| format!("{files:<width$}  {what}\n")).concat())
}

fn path(dir: &Path, file: &str, extension: &str) -> String {
    dir.join(format!("{file}.{extension}")).display().to_string()
}
