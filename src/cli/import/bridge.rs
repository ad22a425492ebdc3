//! `connection` blocks.

use crate::cli::import::lines::Line;
use crate::cli::import::settings::{Conf, find};
use crate::cli::import::{Import, list, quoted};

pub(super) fn put(conf: &Conf, import: &mut Import) {
    for block in &conf.bridges {
        if let Some((first, lines)) = block.split_first() {
            put_one(import, first, lines);
        }
    }
}

fn put_one(import: &mut Import, first: &Line, lines: &[Line]) {
    let of = |key| find(lines, key);
    let either = |key, other| of(key).or_else(|| of(other));
    let Some(addresses) = either("addresses", "address") else {
        return import.note(first, "the bridge has no address");
    };
    let name = &first.value;
    import.table("[[upstream]]");
    import.put("name", quoted(name));
    let is_tls = ["bridge_cafile", "bridge_capath", "bridge_certfile"].iter().any(|key| of(key).is_some());
    import.put("url", list(&urls(&addresses.value, is_tls)));
    let client_id = either("remote_clientid", "clientid").map(|line| line.value.clone());
    import.put("client_id", quoted(&client_id.unwrap_or_else(|| format!("{{gateway}}.{name}"))));
    if let Some(user) = either("remote_username", "username") {
        import.put("username", quoted(&user.value));
    }
    if let Some(password) = either("remote_password", "password") {
        if import.directory.as_os_str().is_empty() {
            import.note(password, "passwords lie in files: with --output one is written, or set `password_file`");
        } else {
            let file = format!("{name}.password");
            let path = import.directory.join(&file).display().to_string();
            import.secrets.push((file, format!("{}\n", password.value)));
            import.put("password_file", quoted(&path));
        }
    }
    let is_v5 = of("bridge_protocol_version").is_some_and(|line| line.value == "mqttv50");
    import.put("version", if is_v5 { "\"5\"" } else { "\"3.1.1\"" });
    put_tls(import, lines, is_tls);
    for line in lines {
        put_line(import, line);
    }
    let mut number = 0;
    for line in lines.iter().filter(|line| line.key == "topic") {
        number += 1;
        put_rule(import, line, number);
    }
}

fn put_tls(import: &mut Import, lines: &[Line], is_tls: bool) {
    let keys = [("bridge_cafile", "ca"), ("bridge_certfile", "cert"), ("bridge_keyfile", "key")];
    let files: Vec<String> = keys
        .iter()
        .filter_map(|(theirs, ours)| find(lines, theirs).map(|line| format!("{ours} = {}", quoted(&line.value))))
        .collect();
    if is_tls && !files.is_empty() {
        import.put("tls", format!("{{ {} }}", files.join(", ")));
    }
}

fn put_line(import: &mut Import, line: &Line) {
    match line.key.as_str() {
        "keepalive_interval" => {
            if let Some(seconds) = import.number(line) {
                import.put("keepalive", format!("\"{seconds}s\""));
            }
        }
        "cleansession" => import.put("clean_start", line.is_true()),
        "bridge_max_packet_size" if line.value == "0" => {}
        "start_type" if line.value == "automatic" => {}
        "notifications" if !line.is_true() => {}
        "bridge_insecure" | "bridge_require_ocsp" if !line.is_true() => {}
        "round_robin" | "try_private" | "bridge_attempt_unsubscribe" | "bridge_outgoing_retain"
            if line.is_true() =>
        {
            if line.key == "round_robin" {
                import.note(line, "the addresses are used in their order, and the first is returned to");
            }
        }
        "round_robin" => {}
        "notifications" | "notification_topic" | "notifications_local_only" => {
            import.note(
                line,
                "the state of the link lies below `status_topic`, of [gateway] here, of the upstream there",
            );
        }
        "restart_timeout" => put_waits(import, line),
        "start_type" | "idle_timeout" | "threshold" => import.note(line, "a bridge is always connected"),
        "bridge_insecure" => {
            import.note(line, "certificates are always checked; `tls.server_name` may be another name");
        }
        "bridge_capath" => import.note(line, "put the certificates into one file, and name it `tls.ca`"),
        "bridge_outgoing_retain" => import.note(line, "give each rule `retain = \"strip\"`"),
        "bridge_protocol_version" if line.value == "mqttv31" => import.note(line, "3.1.1 is spoken upstream"),
        "address"
        | "addresses"
        | "topic"
        | "clientid"
        | "remote_clientid"
        | "username"
        | "remote_username"
        | "password"
        | "remote_password"
        | "bridge_cafile"
        | "bridge_certfile"
        | "bridge_keyfile"
        | "bridge_protocol_version" => {}
        "local_clientid" | "local_username" | "local_password" | "local_cleansession" => {
            import.note(line, "a bridge is no client here: rules say what it gets");
        }
        _ => import.note(line, "moteway has nothing of the kind"),
    }
}

/// One number: the wait, which grows up to it here. Two: the first and the longest.
fn put_waits(import: &mut Import, line: &Line) {
    let waits: Vec<u64> = line.value.split_whitespace().map_while(|word| word.parse().ok()).collect();
    match waits[..] {
        [only] => import.put("reconnect_max", format!("\"{}s\"", only.max(1))),
        [first, longest] => {
            import.put("reconnect_min", format!("\"{}s\"", first.max(1)));
            import.put("reconnect_max", format!("\"{}s\"", longest.max(first).max(1)));
        }
        _ => import.note(line, "write one or two numbers of seconds"),
    }
}

fn urls(addresses: &str, is_tls: bool) -> Vec<String> {
    let scheme = if is_tls { "mqtts" } else { "mqtt" };
    addresses.split_whitespace().map(|address| format!("{scheme}://{address}")).collect()
}

/// `topic pattern [direction [QoS [local prefix [remote prefix]]]]`
fn put_rule(import: &mut Import, line: &Line, number: usize) {
    let words = words(&line.value);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let (pattern, local, remote) = (word(0), word(3), word(4));
    let direction = match word(1) {
        "" | "out" => "out",
        "in" => "in",
        "both" => "both",
        _ => return import.note(line, "the direction is in, out or both"),
    };
    let (local_filter, local_topic) = named(&format!("{local}{pattern}"));
    let (remote_filter, remote_topic) = named(&format!("{remote}{pattern}"));
    let (filter, remap) =
        if direction == "in" { (remote_filter, local_topic) } else { (local_filter, remote_topic) };
    import.table("[[upstream.rule]]");
    import.put("name", format!("\"topic-{number}\""));
    import.put("direction", quoted(direction));
    import.put("filter", quoted(&filter));
    if local != remote {
        import.put("remap", quoted(&remap));
    }
    // There, the QoS of the line is the most that is sent.
    if matches!(word(2), "" | "0") {
        import.put("qos", 0);
    }
}

/// Words, of which `""` is one without letters.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| if word == "\"\"" { String::new() } else { word.to_owned() }).collect()
}

/// A filter with names for its wildcards, and the topic that is made of them.
fn named(filter: &str) -> (String, String) {
    let mut number = 0;
    let levels: Vec<(String, String)> = filter
        .split('/')
        .map(|level| match level {
            "+" => {
                number += 1;
                (format!("{{level{number}}}"), format!("{{level{number}}}"))
            }
            "#" => ("{rest#}".to_owned(), "{rest}".to_owned()),
            level => (level.to_owned(), level.to_owned()),
        })
        .collect();
    let join = |levels: Vec<String>| levels.join("/");
    let (filters, topics): (Vec<String>, Vec<String>) = levels.into_iter().unzip();
    (join(filters), join(topics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_get_names_and_empty_words_stay_words() {
        let (filter, topic) = named("site/+/x/+/#");
        assert_eq!(filter, "site/{level1}/x/{level2}/{rest#}");
        assert_eq!(topic, "site/{level1}/x/{level2}/{rest}");
        assert_eq!(words("# out 1 \"\" remote/"), ["#", "out", "1", "", "remote/"]);
    }
}
