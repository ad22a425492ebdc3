//! Part of `moteway route`: which `[[acl]]` allows or denies a topic to a client.

use serde::Serialize;

use crate::broker::acl::{Acl, Action, Names, Verdict};
use crate::config::Document;

/// The client that is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// A client with this proved name publishes or reads it
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    user: Option<String>,
    /// A client with this client id publishes or reads it
    #[arg(long, value_name = "ID", conflicts_with = "from")]
    client_id: Option<String>,
    /// A client without name or client id publishes or reads it
    #[arg(long, conflicts_with_all = ["from", "user", "client_id"])]
    anonymous: bool,
}

/// What the client may do with the topic.
#[derive(Debug, Serialize)]
pub(super) struct Access {
    publish: Answer,
    read: Answer,
}

#[derive(Debug, Serialize)]
struct Answer {
    allowed: bool,
    /// The decisive filter; none: nothing allows it.
    by: Option<String>,
    /// Where it stands.
    file: Option<String>,
    line: Option<usize>,
}

/// What the client may do; none if nobody was named, or there are no rules.
pub(super) fn ask(document: &Document, who: &Who, topic: &str) -> Option<Access> {
    if who.user.is_none() && who.client_id.is_none() && !who.anonymous {
        return None;
    }
    let acl = Acl::new(document.draft(), 0)?;
    let names = Names { client_id: who.client_id.as_deref(), user: who.user.as_deref() };
    let answer = |action| {
        let Verdict { allowed, by } = acl.explain(names, action, topic);
        let (file, line) = by.as_deref().map(|path| document.line(path)).unzip();
        Answer { allowed, by, file: file.map(str::to_owned), line }
    };
    Some(Access { publish: answer(Action::Publish), read: answer(Action::Read) })
}

impl Access {
    /// Why the broker does not take a publish of this client.
    pub(super) fn refusal(&self) -> Option<String> {
        (!self.publish.allowed).then(|| format!("the client may not publish to it, {}", self.publish.why()))
    }

    pub(super) fn in_words(&self) -> [String; 2] {
        [("publish", &self.publish), ("read", &self.read)].map(|(action, answer)| {
            let verb = if answer.allowed { "may" } else { "may not" };
            format!("the client {verb} {action} it: {}", answer.why())
        })
    }
}

impl Answer {
    fn why(&self) -> String {
        match (&self.by, &self.file, self.line) {
            (Some(by), Some(file), Some(line)) => format!("{file}:{line}, {by}"),
            _ => "no [[acl]] allows it".to_owned(),
        }
    }
}
