//! Who gets in, who waits, and who is turned away.

use base64ct::{Base64UrlUnpadded, Encoding};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::hmac;

use super::*;
use crate::broker::login::{Credentials, Intake, Keys, users::Users};
use crate::config::{CertificateName, Jwt, LoginWay, ServerTls};

/// For the password "password", from the reference implementation's tests.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const SECRET: &[u8] = b"a secret that is long enough for it";

const ACCEPTED: &str = "connack Success present false";
const BAD: &str = "connack BadUserNameOrPassword present false";
const BUSY: &str = "connack ServerBusy present false";

/// A listener that takes passwords and tokens and no strangers; `change` makes it another one.
fn bench(change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = Config::default();
    config.listener[0].login = vec![LoginWay::Password, LoginWay::Token];
    config.listener[0].allow_anonymous = false;
    config.auth.jwt = Some(Jwt::default());
    change(&mut config);
    let mut bench = Bench::with(config, Recovered::default());
    bench.broker.handle_credentials(credentials(&["ann", "bob"]));
    bench
}

fn credentials(names: &[&str]) -> Credentials {
    let lines: String = names.iter().map(|name| format!("{name}:{HASH}\n")).collect();
    let mut keys = Keys::default();
    keys.add_secret(SECRET.to_vec()).unwrap();
    Credentials { users: Users::parse(lines.as_bytes()).unwrap(), keys: keys.into(), seed: [7; 32] }
}

fn with<'a>(client_id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect { username: Some(user), password: Some(password.as_bytes()), ..hello(V5, client_id) }
}

/// Signed with the shared secret.
fn token(payload: &str) -> String {
    let encode = Base64UrlUnpadded::encode_string;
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(payload.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", encode(tag.as_ref()))
}

impl Bench {
    fn accept_from(&mut self, conn: u32, peer: &str) {
        let now = self.now();
        self.broker.handle_accepted(now, ConnId(conn), ListenerId(0), Some(peer.parse().unwrap()));
    }

    /// What the client is told, with all checks done.
    fn log_in(&mut self, conn: u32, connect: &Connect<'_>) -> Vec<String> {
        self.log_in_from(conn, "10.0.0.1:9", connect)
    }

    fn log_in_from(&mut self, conn: u32, peer: &str, connect: &Connect<'_>) -> Vec<String> {
        self.accept_from(conn, peer);
        self.send(conn, &Packet::Connect(*connect), connect.version);
        while self.answer() {}
        self.sent(conn, connect.version)
    }

    /// Does the check that was asked for, if one was.
    fn answer(&mut self) -> bool {
        let Some(check) = self.checks.pop_front() else { return false };
        let now = self.now();
        self.broker.handle_verified(now, &mut self.queues, check.id, check.proof.verify());
        self.settle();
        true
    }

    fn user_of(&self, client_id: &str) -> Option<&str> {
        self.broker.sessions[self.broker.by_client[client_id] as usize].user.as_deref()
    }
}

#[test]
fn a_good_password_lets_in_and_gives_the_session_its_user() {
    let mut bench = bench(|_| {});
    assert_eq!(bench.log_in(0, &with("c", "ann", "password")), [ACCEPTED]);
    assert_eq!(bench.user_of("c"), Some("ann"));
    assert_eq!(bench.broker.intake(ConnId(0)), Intake::Open);
    assert!(bench.broker.conns[0].as_ref().unwrap().guest.is_none(), "nothing of it is kept");
}

#[test]
fn a_wrong_password_an_unknown_user_and_half_a_proof_get_the_same_answer() {
    let mut bench = bench(|config| config.auth.max_failures = 100);
    let connects = [
        with("c", "ann", "passwort"),
        with("c", "ann", ""),
        with("c", "eve", "password"),
        Connect { username: Some("ann"), ..hello(V5, "c") },
        Connect { password: Some(b"password"), ..hello(V5, "c") },
    ];
    for (n, connect) in connects.iter().enumerate() {
        assert_eq!(bench.log_in(0, connect), [BAD], "{n}");
        let notice = bench.notices.last().unwrap();
        assert!(notice.detail.ends_with("wrong user name or password"), "{notice:?}");
        assert!(notice.who.contains("10.0.0.1:9") && notice.who.contains("local"), "{notice:?}");
        assert!(!notice.detail.contains("passwort"), "{notice:?}");
        bench.lose(0);
    }
    assert_eq!(bench.broker.stats().logins_refused, 5);
    let old = Connect { version: V311, ..with("c", "ann", "x") };
    assert_eq!(bench.log_in(0, &old), [BAD], "return code 4");
    let nameless = Connect { version: V311, ..hello(V5, "c") };
    bench.lose(0);
    assert_eq!(bench.log_in(0, &nameless), ["connack NotAuthorized present false"], "return code 5");
}

#[test]
fn an_unknown_user_costs_a_check_too() {
    let mut bench = bench(|_| {});
    bench.accept_from(0, "10.0.0.1:9");
    bench.send(0, &Packet::Connect(with("c", "eve", "password")), V5);
    let check = bench.checks.front().unwrap();
    assert!(check.proof.verify(), "the hash of somebody else");
    assert!(!format!("{check:?}").contains("112, 97, 115"), "not even as numbers: {check:?}");
    assert!(bench.answer());
    assert_eq!(bench.sent(0, V5), [BAD]);
}

#[test]
fn while_a_password_is_checked_the_rest_waits_and_others_are_served() {
    let mut bench = bench(|config| config.listener[0].allow_anonymous = true);
    assert_eq!(bench.connect(1, &hello(V5, "other")), [ACCEPTED]);
    bench.accept_from(0, "10.0.0.1:9");
    assert_eq!(bench.broker.intake(ConnId(0)), Intake::Secret);
    let mut bytes = Vec::new();
    Packet::Connect(with("c", "ann", "password")).encode(V5, &mut bytes);
    Packet::PingReq.encode(V5, &mut bytes);
    let (first, rest) = bytes.split_at(bytes.len() - 1);
    for bytes in [first, rest] {
        let now = bench.now();
        bench.broker.handle_received(now, &mut bench.queues, ConnId(0), bytes);
        assert_eq!(bench.broker.intake(ConnId(0)), Intake::Paused);
    }
    bench.settle();
    assert!(bench.sent(0, V5).is_empty());
    bench.subscribe(1, V5, "a", qos(QoS::AtMostOnce), None);
    bench.publish(1, V5, &message("a", "live", QoS::AtMostOnce, 0));
    assert_eq!(bench.sent(1, V5), ["suback [0]", "a=live qos 0"]);
    assert!(bench.answer());
    assert_eq!(bench.sent(0, V5), [ACCEPTED, "PingResp"]);
}

#[test]
fn one_is_checked_at_a_time_and_no_more_wait_than_may() {
    let mut bench = bench(|config| config.auth.max_waiting = 2);
    let connects = ["c0", "c1", "c2", "c3"].map(|id| with(id, "ann", "password"));
    for (connect, conn) in connects.iter().zip(0..) {
        bench.accept_from(conn, "10.0.0.1:9");
        bench.send(conn, &Packet::Connect(*connect), V5);
    }
    assert_eq!(bench.checks.len(), 1);
    assert_eq!(bench.sent(3, V5), [BUSY]);
    assert_eq!(bench.broker.stats().logins_busy, 1);
    bench.lose(1);
    bench.accept_from(1, "10.0.0.1:9");
    bench.send(1, &Packet::Connect(with("c4", "bob", "password")), V5);
    assert!(bench.answer());
    assert_eq!((bench.sent(0, V5), bench.sent(2, V5)), (vec![ACCEPTED.to_owned()], vec![ACCEPTED.to_owned()]));
    assert!(bench.answer(), "bob has a check of his own; ann was remembered");
    assert_eq!(bench.sent(1, V5), [ACCEPTED]);
    assert!(!bench.answer());
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut bench = bench(|config| config.auth.max_waiting_bytes = 150);
    let long = "x".repeat(80);
    for conn in 0..3 {
        bench.accept_from(conn, "10.0.0.1:9");
        bench.send(conn, &Packet::Connect(with("c", "ann", &long)), V5);
    }
    let told: Vec<_> = (0..3).map(|conn| bench.sent(conn, V5).len()).collect();
    assert_eq!(told, [0, 0, 1], "one is checked, one waits");
}

#[test]
fn a_client_that_leaves_while_it_is_checked_leaves_nothing_behind() {
    let mut bench = bench(|_| {});
    bench.accept_from(0, "10.0.0.1:9");
    bench.send(0, &Packet::Connect(with("c", "ann", "password")), V5);
    bench.lose(0);
    // The number goes to somebody else, who proves nothing.
    bench.accept_from(0, "10.0.0.2:9");
    bench.send(0, &Packet::Connect(with("d", "bob", "wrong")), V5);
    assert!(bench.answer());
    assert!(bench.sent(0, V5).is_empty(), "that was not his");
    assert!(bench.answer());
    assert_eq!(bench.sent(0, V5), [BAD]);
    assert_eq!(bench.broker.sessions(), 0);
}

#[test]
fn a_verdict_that_nobody_asked_for_is_ignored() {
    let mut bench = bench(|_| {});
    bench.accept_from(0, "10.0.0.1:9");
    bench.send(0, &Packet::Connect(with("c", "ann", "wrong")), V5);
    let now = bench.now();
    for id in [0, 2, u64::MAX] {
        bench.broker.handle_verified(now, &mut bench.queues, id, true);
    }
    assert!(bench.sent(0, V5).is_empty());
    assert!(bench.answer());
    assert_eq!(bench.sent(0, V5), [BAD]);
}

#[test]
fn nobody_waits_longer_for_a_check_than_for_a_connect() {
    let mut bench = bench(|_| {});
    bench.accept_from(0, "10.0.0.1:9");
    bench.send(0, &Packet::Connect(with("c", "ann", "password")), V5);
    for _ in 0..9 {
        assert!(bench.closed.is_empty());
        bench.settle();
    }
    assert_eq!((bench.sent(0, V5), bench.closed.as_slice()), (vec![BUSY.to_owned()], &[ConnId(0)][..]));
    assert!(bench.answer());
    assert_eq!(bench.broker.sessions(), 0);
}

#[test]
fn a_password_that_was_good_is_remembered_until_the_file_changes() {
    let mut bench = bench(|_| {});
    let good = with("c", "ann", "password");
    assert_eq!(bench.log_in(0, &good), [ACCEPTED]);
    bench.accept_from(1, "10.0.0.1:9");
    bench.send(1, &Packet::Connect(with("d", "ann", "password")), V5);
    assert!(bench.checks.is_empty(), "nothing to check");
    assert_eq!(bench.sent(1, V5), [ACCEPTED]);
    assert_eq!(bench.log_in(2, &with("e", "ann", "passworD")), [BAD], "only this password");
    assert_eq!(bench.log_in(3, &with("e", "bob", "wrong")), [BAD], "and only this user");

    bench.broker.handle_credentials(credentials(&["bob"]));
    assert_eq!(bench.log_in(4, &with("f", "ann", "password")), [BAD], "there is no ann any more");
}

#[test]
fn what_is_checked_while_the_file_changes_is_checked_again() {
    let mut bench = bench(|_| {});
    bench.accept_from(0, "10.0.0.1:9");
    bench.send(0, &Packet::Connect(with("c", "ann", "password")), V5);
    bench.broker.handle_credentials(credentials(&["bob"]));
    assert!(bench.answer());
    assert!(bench.sent(0, V5).is_empty(), "that verdict is of yesterday");
    assert!(bench.answer());
    assert_eq!(bench.sent(0, V5), [BAD]);
}

#[test]
fn an_address_that_fails_too_often_is_refused_without_a_check_for_a_while() {
    let mut bench = bench(|config| {
        config.auth.max_failures = 3;
        config.auth.failure_block = Duration::from_secs(30);
        config.listener[0].allow_anonymous = true;
    });
    assert_eq!(bench.log_in_from(9, "10.0.0.2:1", &with("z", "ann", "password")), [ACCEPTED]);
    for n in 0..3 {
        assert_eq!(bench.log_in_from(n, "10.0.0.1:1", &with("c", "ann", "wrong")), [BAD]);
    }
    let told = |notice: &Notice| notice.what == "log-ins blocked" && notice.who == "10.0.0.1";
    assert_eq!(bench.notices.iter().filter(|notice| told(notice)).count(), 1);
    let good = with("c", "ann", "password");
    bench.accept_from(4, "10.0.0.1:2");
    bench.send(4, &Packet::Connect(good), V5);
    assert!(bench.checks.is_empty());
    assert_eq!(bench.sent(4, V5), ["connack ConnectionRateExceeded present false"], "though it is the right one");
    assert_eq!(bench.broker.stats().logins_throttled, 1);
    assert_eq!(
        bench.log_in_from(5, "10.0.0.1:1", &hello(V5, "n")),
        [ACCEPTED],
        "without a name nothing is guessed"
    );
    assert_eq!(bench.log_in_from(6, "10.0.0.3:1", &good), [ACCEPTED]);
    for _ in 0..30 {
        bench.settle();
    }
    assert_eq!(bench.log_in_from(7, "10.0.0.1:1", &with("e", "ann", "password")), [ACCEPTED]);
}

#[test]
fn a_failure_counts_though_its_client_does_not_wait_for_the_answer() {
    let mut bench = bench(|config| config.auth.max_failures = 2);
    for n in 0..2 {
        bench.accept_from(n, "10.0.0.1:1");
        bench.send(n, &Packet::Connect(with("c", "ann", "wrong")), V5);
        bench.lose(n);
        assert!(bench.answer());
    }
    let told = bench.log_in_from(3, "10.0.0.1:1", &with("c", "ann", "password"));
    assert_eq!(told, ["connack ConnectionRateExceeded present false"]);
}

#[test]
fn a_token_names_its_user_and_ends_the_connection_when_it_is_over() {
    let mut bench = bench(|_| {});
    let leeway = Jwt::default().leeway.as_secs();
    let ends = bench.now().wall.as_millis() / 1000 + 200 - leeway;
    let token = token(&format!(r#"{{"sub":"device-7","exp":{ends}}}"#));
    assert_eq!(bench.log_in(0, &with("c", "whoever", &token)), [ACCEPTED]);
    assert_eq!(bench.user_of("c"), Some("device-7"));
    while bench.millis < 199_000 {
        bench.send(0, &Packet::PingReq, V5);
        assert_eq!(bench.sent(0, V5), ["PingResp"], "at {}", bench.millis);
    }
    bench.settle();
    assert_eq!(bench.sent(0, V5), ["disconnect NotAuthorized"]);
    assert_eq!(bench.closed, [ConnId(0)]);
    bench.lose(0);
    assert_eq!(bench.log_in(0, &with("c", "whoever", &token)), [BAD], "and does not let in again");
    let detail = &bench.notices.last().unwrap().detail;
    assert!(detail.contains("the token is over") && !detail.contains(&token), "{detail}");
}

#[test]
fn a_connection_that_ends_before_its_token_leaves_no_timer_behind() {
    let mut bench = bench(|_| {});
    let before = bench.broker.timers.len();
    let token = token(r#"{"sub":"ann","exp":4102444800}"#);
    assert_eq!(bench.log_in(0, &with("c", "", &token)), [ACCEPTED]);
    bench.lose(0);
    let session = bench.broker.sessions();
    assert_eq!(bench.broker.timers.len(), before + session, "that of the session that waits, no more");
}

#[test]
fn a_token_that_somebody_else_signed_is_refused() {
    let mut bench = bench(|_| {});
    let good = token(r#"{"sub":"ann"}"#);
    let forged = format!("{}A{}", &good[..good.len() - 2], &good[good.len() - 1..]);
    assert_eq!(bench.log_in(0, &with("c", "ann", &forged)), [BAD]);
    assert_eq!(bench.log_in(1, &with("c", "ann", &good)), [ACCEPTED]);
}

#[test]
fn a_listener_takes_only_the_ways_that_it_is_told() {
    let token = token(r#"{"sub":"ann"}"#);
    let mut only_tokens = bench(|config| config.listener[0].login = vec![LoginWay::Token]);
    assert_eq!(only_tokens.log_in(0, &with("c", "ann", "password")), [BAD]);
    assert_eq!(only_tokens.log_in(1, &with("c", "ann", &token)), [ACCEPTED]);
    let mut only_passwords = bench(|config| config.listener[0].login = vec![LoginWay::Password]);
    assert_eq!(only_passwords.log_in(0, &with("c", "ann", &token)), [BAD]);
    let mut anybody = bench(|config| {
        config.listener[0].login = Vec::new();
        config.listener[0].allow_anonymous = true;
    });
    assert_eq!(anybody.log_in(0, &with("c", "ann", "whatever")), [ACCEPTED]);
    assert_eq!(anybody.user_of("c"), None, "it proved nothing");
    let mut nobody = bench(|config| config.listener[0].login = Vec::new());
    assert_eq!(nobody.log_in(0, &with("c", "ann", "password")), ["connack NotAuthorized present false"]);
}

#[test]
fn a_certificate_names_its_client_whatever_connect_says() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "box 7");
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let tls = |identity| ServerTls { client_ca: Some("a".into()), identity, ..ServerTls::default() };
    let bench_with = |identity| {
        bench(|config| {
            config.listener[0].login = vec![LoginWay::Certificate];
            config.listener[0].tls = Some(tls(identity));
        })
    };
    let mut bench = bench_with(CertificateName::CommonName);
    let come = |bench: &mut Bench, connect: &Connect<'_>| {
        bench.accept_from(0, "10.0.0.1:1");
        bench.broker.handle_certificate(ConnId(0), &der);
        bench.send(0, &Packet::Connect(*connect), V5);
        bench.sent(0, V5)
    };
    assert_eq!(come(&mut bench, &with("c", "root", "x")), [ACCEPTED]);
    assert_eq!(bench.user_of("c"), Some("box 7"));
    assert!(bench.checks.is_empty());
    let mut bench = bench_with(CertificateName::SanDns);
    assert_eq!(come(&mut bench, &hello(V5, "c")), ["connack NotAuthorized present false"]);
    assert!(bench.notices.last().unwrap().detail.contains("alternative name"));
}

#[test]
fn enhanced_authentication_is_refused() {
    let mut bench = bench(|_| {});
    let properties =
        ConnectProperties { authentication_method: Some("SCRAM-SHA-1"), ..ConnectProperties::default() };
    let connect = Connect { properties, ..with("c", "ann", "password") };
    assert_eq!(bench.log_in(0, &connect), ["connack BadAuthenticationMethod present false"]);
}
