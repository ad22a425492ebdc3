//! Who may log in where: what is asked for and not there, and what leaves the door open or shut.

use crate::config::Finding;
use crate::config::document::SourceMap;
use crate::config::schema::{Auth, Config, Listener, LoginWay, ServerTls};

pub(super) fn listener(i: usize, listener: &Listener, config: &Config, map: &SourceMap, found: &mut Vec<Finding>) {
    ways(i, listener, &config.auth, found);
    let tls = listener.tls.as_ref();
    let identity = format!("listener[{i}].tls.identity");
    if map.has(&identity) && tls.is_some_and(|tls| tls.client_ca.is_none()) {
        let message = "`identity` is taken from the client's certificate, and none is asked for";
        found.push(Finding::error(identity, message, "add `client_ca` to `tls`, or take `identity` out"));
    }
    let is_on_a_network = !listener.bind.is_local();
    let secret = listener.login.iter().any(|way| matches!(way, LoginWay::Password | LoginWay::Token));
    if secret && is_on_a_network && tls.is_none() {
        found.push(Finding::warning(
            format!("listener[{i}].bind"),
            format!("passwords and tokens travel unencrypted to listener `{}`", listener.name),
            "give the listener `tls`, or bind it to 127.0.0.1",
        ));
    }
    let anonymous = format!("listener[{i}].allow_anonymous");
    if !listener.allow_anonymous && listener.login.is_empty() {
        found.push(Finding::warning(
            anonymous,
            format!(
                "listener `{}` lets nobody in: anonymous clients are refused, and there is no way to log in",
                listener.name
            ),
            "set `password_file` in [auth], or write `allow_anonymous = true` if everyone who reaches this address may connect",
        ));
    } else if listener.allow_anonymous
        && is_on_a_network
        && config.acl.is_empty()
        && !tls.is_some_and(ServerTls::requires_client_cert)
    {
        found.push(Finding::warning(
            anonymous,
            format!("everyone who reaches {} may publish and subscribe to everything", listener.bind),
            "bind to 127.0.0.1, or set `password_file` in [auth] and take `allow_anonymous` out, or say who may do what with [[acl]], unless that is meant",
        ));
    }
}

/// What `login` names must be there.
fn ways(i: usize, listener: &Listener, auth: &Auth, found: &mut Vec<Finding>) {
    for (n, way) in listener.login.iter().enumerate() {
        let (is_there, name, remedy) = match way {
            LoginWay::Password => {
                let remedy = "set `password_file` in [auth]; `moteway passwd` writes it";
                (auth.password_file.is_some(), "password", remedy)
            }
            LoginWay::Token => (auth.jwt.is_some(), "token", "add [auth.jwt] with a key"),
            LoginWay::Certificate => {
                let has_ca = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
                (has_ca, "certificate", "add `client_ca` to the `tls` of this listener")
            }
        };
        if !is_there {
            let message = format!("listener `{}` takes \"{name}\", which is not configured", listener.name);
            found.push(Finding::error(format!("listener[{i}].login[{n}]"), message, remedy));
        }
    }
}

/// What is configured and asked for nowhere.
pub(super) fn without_effect(config: &Config, found: &mut Vec<Finding>) {
    let is_used = |way| config.listener.iter().any(|listener| listener.login.contains(&way));
    let there = [
        (config.auth.password_file.is_some(), LoginWay::Password, "auth.password_file", "password"),
        (config.auth.jwt.is_some(), LoginWay::Token, "auth.jwt", "token"),
    ];
    for (is_there, way, path, name) in there {
        if is_there && !config.listener.is_empty() && !is_used(way) {
            let message = format!("`{path}` has no effect: no listener takes it");
            found.push(Finding::warning(path, message, format!("add \"{name}\" to the `login` of a listener")));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Document, LoginWay, Severity};

    const LAN: &str = "[[listener]]\nname = \"lan\"\nbind = \"0.0.0.0:8883\"\n";
    const TLS: &str = "tls = { cert = \"c\", key = \"k\", client_ca = \"ca\" }\n";
    const FILE: &str = "[auth]\npassword_file = \"/p\"\n";
    const JWT: &str = "[auth.jwt]\npublic_key_file = \"/k\"\n";

    /// All that is said about a file, errors and warnings.
    fn said(text: &str) -> String {
        let document = Document::parse("t.toml", text);
        document.diagnostics().iter().map(|found| format!("{} | {}\n", found.message, found.help)).collect()
    }

    fn is_refused(text: &str) -> bool {
        Document::parse("t.toml", text).diagnostics().count(Severity::Error) > 0
    }

    fn listener(text: &str) -> (Vec<LoginWay>, bool) {
        let config = Config::parse(text).unwrap_or_else(|error| panic!("{error}"));
        (config.listener[0].login.clone(), config.listener[0].allow_anonymous)
    }

    #[test]
    fn a_listener_takes_every_way_that_is_configured_and_then_nobody_without_a_name() {
        use LoginWay::{Certificate, Password, Token};
        assert_eq!(listener(""), (vec![], true));
        assert_eq!(listener(FILE), (vec![Password], false), "also on loopback");
        assert_eq!(listener(&format!("{FILE}{JWT}{LAN}{TLS}")), (vec![Password, Token, Certificate], false));
        assert_eq!(listener(&format!("{FILE}{JWT}{LAN}login = \"token\"\n")), (vec![Token], false));
        assert_eq!(listener(&format!("{LAN}login = []\n")), (vec![], false));
        let local = "[[listener]]\nname = \"local\"\nbind = \"127.0.0.1:1\"\n";
        assert_eq!(listener(&format!("{FILE}{local}login = []\n")), (vec![], true));
        assert_eq!(listener(&format!("{FILE}{local}allow_anonymous = true\n")), (vec![Password], true));
    }

    #[test]
    fn a_way_that_is_not_configured_is_an_error() {
        for (keys, remedy) in [
            ("login = [\"password\"]\n", "`moteway passwd`"),
            ("login = \"token\"\n", "[auth.jwt]"),
            ("login = [\"certificate\"]\n", "client_ca"),
            ("login = [\"passwort\"]\n", "did you mean \"password\"?"),
            ("tls = { cert = \"c\", key = \"k\", identity = \"cn\" }\n", "add `client_ca`"),
            ("tls = { cert = \"c\", key = \"k\", client_ca = \"a\", identity = \"dn\" }\n", "\"san-dns\""),
        ] {
            let text = format!("{LAN}{keys}");
            assert!(is_refused(&text) && said(&text).contains(remedy), "{keys}: {}", said(&text));
        }
        assert!(is_refused("[auth.jwt]\nissuer = \"x\"\n"), "without a key");
    }

    #[test]
    fn doors_that_are_wide_open_or_shut_are_warned_of() {
        assert!(said(LAN).contains("lets nobody in"));
        assert_eq!(said(&format!("{LAN}{TLS}")), "", "certificates are a way in");
        assert!(said(&format!("{FILE}{LAN}")).contains("unencrypted to listener `lan`"));
        assert_eq!(said(&format!("{FILE}{LAN}{TLS}")), "");
        assert!(said(&format!("{LAN}allow_anonymous = true\n")).contains("everyone who reaches 0.0.0.0:8883"));
        assert!(said(&format!("{FILE}{LAN}{TLS}login = \"certificate\"\n")).contains("no listener takes it"));
    }
}
