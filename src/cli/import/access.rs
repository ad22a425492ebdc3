//! Password and ACL files.
//!
//! mosquitto lets everybody subscribe to everything and asks at delivery; so does what is made here.

use std::path::Path;

use crate::cli::import::lines::{Line, text_lines};
use crate::cli::import::settings::{Conf, find};
use crate::cli::import::{Import, list, quoted};

/// Whom lines of an ACL file are for.
#[derive(PartialEq)]
enum Who {
    Anonymous,
    User(String),
    /// `pattern` lines.
    Everybody,
}

struct Rule {
    who: Who,
    publish: Vec<String>,
    read: Vec<String>,
    deny: Vec<String>,
}

pub(super) fn put(conf: &Conf, import: &mut Import) -> Result<(), String> {
    if let Some(line) = one(conf, import, "password_file") {
        import.table("[auth]");
        import.put("password_file", quoted(&line.value));
    }
    let Some(line) = one(conf, import, "acl_file") else { return Ok(()) };
    let rules = read(&line, import)?;
    import.table("[[acl]]");
    import.put("subscribe", "[\"#\", \"$SYS/#\"]");
    import.put("read", "[]");
    for rule in rules {
        import.table("[[acl]]");
        match &rule.who {
            Who::Anonymous => import.put("anonymous", true),
            Who::User(name) => import.put("user", quoted(name)),
            Who::Everybody => {}
        }
        import.put("publish", list(&rule.publish));
        import.put("read", list(&rule.read));
        if !rule.deny.is_empty() {
            import.put("deny_publish", list(&rule.deny));
            import.put("deny_read", list(&rule.deny));
        }
    }
    Ok(())
}

/// The one file of its kind. Others, of other listeners, cannot be told apart here.
fn one(conf: &Conf, import: &mut Import, key: &str) -> Option<Line> {
    let of_listeners = conf.listeners.iter().filter_map(|lines| find(lines, key));
    let all: Vec<&Line> = conf.general(key).into_iter().chain(of_listeners).collect();
    let first = (*all.first()?).clone();
    for line in all.into_iter().filter(|line| line.value != first.value) {
        import.note(line, format!("all listeners have one {key}, and there is another"));
    }
    Some(first)
}

fn read(line: &Line, import: &mut Import) -> Result<Vec<Rule>, String> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut user = None;
    for line in text_lines(Path::new(&line.value)).map_err(|error| format!("{}: {error}", line.place()))? {
        let who = match line.key.as_str() {
            "user" => {
                user = Some(line.value.clone());
                continue;
            }
            "topic" => user.clone().map_or(Who::Anonymous, Who::User),
            "pattern" => Who::Everybody,
            _ => {
                import.note(&line, "an ACL file has `user`, `topic` and `pattern`");
                continue;
            }
        };
        let (access, topic) = match line.value.split_once(char::is_whitespace) {
            Some((access @ ("read" | "write" | "readwrite" | "deny"), topic)) => (access, topic.trim()),
            _ => ("readwrite", line.value.as_str()),
        };
        let topic = match &who {
            Who::Everybody => topic.replace("%c", "{client_id}").replace("%u", "{user}"),
            _ => topic.to_owned(),
        };
        let place = rules.iter().position(|rule| rule.who == who).unwrap_or_else(|| {
            rules.push(Rule { who, publish: Vec::new(), read: Vec::new(), deny: Vec::new() });
            rules.len() - 1
        });
        let rule = &mut rules[place];
        if matches!(access, "write" | "readwrite") {
            rule.publish.push(topic.clone());
        }
        if matches!(access, "read" | "readwrite") {
            rule.read.push(topic.clone());
        }
        if access == "deny" {
            rule.deny.push(topic);
        }
    }
    Ok(rules)
}
