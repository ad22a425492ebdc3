//! Idle: connections that subscribe and wait, so that their memory can be measured from outside.

use crate::Outcome;
use crate::client::{Client, raise_file_limit};
use crate::options::Options;
use crate::stats::Report;
use std::error::Error;
use std::io::{self, Write};

/// Prints its line when all are subscribed, then holds them until stdin closes.
pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.clients)?;
    let mut clients = Vec::new();
    for index in 0..options.clients {
        let topic = format!("bench/{index}");
        clients.push(Client::subscriber(&options.broker, &format!("load-{index}"), &topic, options.qos)?);
    }
    println!("{{\"subscribed\": {}}}", clients.len());
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;

    let mut report = Report::new();
    report.put_count("held", u64::from(options.clients));
    clients.into_iter().for_each(Client::disconnect);
    Ok(Outcome { report, complete: true })
}
