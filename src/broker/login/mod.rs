//! Who a client is: by a password, a token, or its certificate.
//!
//! A password's hash and a token's signature take long to check, up to a second on a small processor, and nobody else
//! shall wait for that. So the broker asks for it as an output, [`Check`], one at a time, and goes on; the answer is an
//! input. Meanwhile the client's CONNECT lies here, and the shell reads no more of that connection ([`Intake`]). What
//! waits is bounded in number and bytes; what is more is told that the server is busy.
//!
//! A user's password that was good is remembered under a keyed hash until the file changes, so that the return of a
//! thousand clients after an outage costs nothing.

mod admission;
mod certificate;
pub mod hash;
mod keys;
pub mod secret;
mod throttle;
mod token;
pub mod users;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ring::hmac;

use crate::broker::login::hash::PasswordHash;
use crate::broker::login::secret::{Secret, is_equal};
use crate::broker::login::throttle::{Limits, Origin, Throttle};
use crate::broker::login::token::Signed;
use crate::broker::login::users::Users;
use crate::config::{self, CertificateName, LoginWay};
use crate::mqtt::{ConnId, Connect, ReasonCode};
use crate::time::{Instant, Now, Wall};

pub use certificate::name as certificate_name;
pub use keys::Keys;

/// What log-ins are checked against. The shell reads it from files, and may replace it at any time.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The password file.
    pub users: Users,
    /// The keys of tokens.
    pub keys: Arc<Keys>,
    /// Random, different each time: under it passwords that were good are remembered.
    pub seed: [u8; 32],
}

/// Asks whether a proof is good. Exactly one answer is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Comes back with the answer.
    pub id: u64,
    /// What is to be checked.
    pub proof: Proof,
}

/// Something that takes long to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Password { hash: Arc<PasswordHash>, password: Secret },
    Token(Signed),
}

impl Proof {
    /// Checks it. Takes up to a second: never where others wait.
    #[must_use]
    pub fn verify(&self) -> bool {
        match &self.0 {
            Kind::Password { hash, password } => hash.verify(password.expose()),
            Kind::Token(signed) => signed.verify(),
        }
    }
}

/// How a connection's next bytes are to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// As any.
    Open,
    /// A secret may be among them: buffers are wiped.
    Secret,
    /// They are not read yet.
    Paused,
}

/// What a connection brings with it or waits for while it logs in, and what its log-in leaves behind.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// The name in its certificate, or why there is none.
    certificate: Option<Result<Box<str>, &'static str>>,
    /// Its CONNECT, while its proof waits or is checked.
    connect: Option<Secret>,
    /// When its token is over, and when that is looked at.
    ends: Option<(Wall, Instant)>,
}

impl Guest {
    pub(super) fn is_waiting(&self) -> bool {
        self.connect.is_some()
    }
}

/// Who came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// None: anonymous.
    pub user: Option<Box<str>>,
    /// When it has to go.
    pub ends: Option<Wall>,
}

/// How a listener lets clients in.
#[derive(Debug, Clone, Default)]
pub(super) struct Door {
    password: bool,
    token: bool,
    certificate: Option<CertificateName>,
    anonymous: bool,
}

impl Door {
    pub(super) fn new(listener: &config::Listener) -> Self {
        let takes = |way| listener.login.contains(&way);
        let identity = listener.tls.as_ref().map(|tls| tls.identity);
        Self {
            password: takes(LoginWay::Password),
            token: takes(LoginWay::Token),
            certificate: identity.filter(|_| takes(LoginWay::Certificate)),
            anonymous: listener.allow_anonymous,
        }
    }
}

/// Why somebody is not let in, and how that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The proof is wrong. Which part of it is for the log alone, and of a password not even for that.
    Bad(&'static str),
    /// Nothing was proved.
    Nameless(&'static str),
    /// The address failed too often.
    Throttled,
    /// Too many wait.
    Busy,
}

impl Refusal {
    fn reason(self) -> ReasonCode {
        match self {
            Self::Bad(_) => ReasonCode::BadUserNameOrPassword,
            Self::Nameless(_) => ReasonCode::NotAuthorized,
            Self::Throttled => ReasonCode::ConnectionRateExceeded,
            Self::Busy => ReasonCode::ServerBusy,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Bad(text) | Self::Nameless(text) => text,
            Self::Throttled => "too many log-ins from this address failed",
            Self::Busy => "too many log-ins wait for their check",
        }
    }
}

/// What one looks at when somebody asks to come in.
enum Verdict {
    In(Identity),
    Out(Refusal),
    /// It depends on this.
    Ask(Kind, Claim),
}

/// What is so if the proof is good.
#[derive(Debug)]
struct Claim {
    identity: Identity,
    /// Under what it is remembered, for passwords.
    memory: Option<[u8; 32]>,
    /// The user exists; if not, the proof is another's and only there so that this takes as long.
    is_known: bool,
}

/// The check that is under way.
#[derive(Debug)]
struct Running {
    id: u64,
    conn: ConnId,
    epoch: u16,
    origin: Origin,
    claim: Claim,
    /// Which credentials it was made of.
    generation: u64,
}

/// Log-ins: what they are checked against, who waits, and who failed too often.
#[derive(Debug)]
pub(super) struct Logins {
    max_waiting: usize,
    max_waiting_bytes: usize,
    jwt: Option<config::Jwt>,
    credentials: Credentials,
    generation: u64,
    /// Users whose password was good, with its keyed hash. Never more than the file has.
    remembered: BTreeMap<Box<str>, [u8; 32]>,
    throttle: Throttle,
    waiting: VecDeque<(ConnId, u16)>,
    waiting_bytes: usize,
    running: Option<Running>,
    last_check: u64,
}

impl Logins {
    pub(super) fn new(config: &config::Auth) -> Self {
        Self {
            max_waiting: config.max_waiting,
            max_waiting_bytes: config.max_waiting_bytes,
            jwt: config.jwt.clone(),
            credentials: Credentials::default(),
            generation: 0,
            remembered: BTreeMap::new(),
            throttle: Throttle::new(throttle_limits(config)),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: None,
            last_check: 0,
        }
    }

    /// From now on these settings hold. Failures are not forgotten.
    pub(super) fn configure(&mut self, config: &config::Auth) {
        self.max_waiting = config.max_waiting;
        self.max_waiting_bytes = config.max_waiting_bytes;
        self.jwt = config.jwt.clone();
        self.throttle.configure(throttle_limits(config));
    }

    /// From now on log-ins are checked against these. Who is in stays in.
    fn replace(&mut self, credentials: Credentials) {
        self.credentials = credentials;
        self.generation += 1;
        self.remembered.clear();
    }

    /// What can be said at once about somebody who asks to come in.
    fn judge(
        &self,
        now: Now,
        door: &Door,
        origin: Origin,
        guest: Option<&Guest>,
        connect: &Connect<'_>,
    ) -> Verdict {
        let certificate = guest.and_then(|guest| guest.certificate.as_ref());
        // It was checked in the handshake, and nobody can guess one.
        if let Some(Ok(name)) = certificate {
            return Verdict::In(Identity { user: Some(name.clone()), ends: None });
        }
        match (connect.username, connect.password) {
            (_, Some(password)) if door.token && token::looks_like_token(password) => {
                if self.throttle.is_blocked(now.at, origin) {
                    return Verdict::Out(Refusal::Throttled);
                }
                self.judge_token(now, password)
            }
            (Some(name), Some(password)) if door.password => {
                if self.throttle.is_blocked(now.at, origin) {
                    return Verdict::Out(Refusal::Throttled);
                }
                self.judge_password(name, password)
            }
            (None, None) if door.anonymous => Verdict::In(Identity::default()),
            // Nobody asks for names here, so they are not looked at.
            _ if door.anonymous && !door.password && !door.token => Verdict::In(Identity::default()),
            (None, None) => Verdict::Out(Refusal::Nameless(match certificate {
                Some(Err(text)) => text,
                _ => "the listener does not allow anonymous clients",
            })),
            _ if door.password || door.token => Verdict::Out(Refusal::Bad(BAD_PASSWORD)),
            _ => Verdict::Out(Refusal::Nameless("the listener takes no passwords and no anonymous clients")),
        }
    }

    fn judge_token(&self, now: Now, token: &[u8]) -> Verdict {
        let Some(rules) = &self.jwt else { return Verdict::Out(Refusal::Bad("tokens are not configured")) };
        match token::read(token, now.wall, rules, &self.credentials.keys) {
            Ok((signed, claims)) => {
                let identity = Identity { user: Some(claims.user), ends: claims.ends };
                Verdict::Ask(Kind::Token(signed), Claim { identity, memory: None, is_known: true })
            }
            Err(text) => Verdict::Out(Refusal::Bad(text)),
        }
    }

    fn judge_password(&self, name: &str, password: &[u8]) -> Verdict {
        let identity = Identity { user: Some(name.into()), ends: None };
        let users = &self.credentials.users;
        let Some(hash) = users.get(name) else {
            // With another user's hash it takes as long, and the same one for the same name each time.
            let [a, b, ..] = self.keyed_hash(name.as_bytes(), &[]);
            let Some(other) = users.nth(usize::from(u16::from_be_bytes([a, b])) % users.len().max(1)) else {
                return Verdict::Out(Refusal::Bad(BAD_PASSWORD));
            };
            let kind = Kind::Password { hash: Arc::clone(other), password: Secret::copy_of(password) };
            return Verdict::Ask(kind, Claim { identity, memory: None, is_known: false });
        };
        let memory = self.keyed_hash(hash.to_string().as_bytes(), password);
        if self.remembered.get(name).is_some_and(|known| is_equal(known, &memory)) {
            return Verdict::In(identity);
        }
        let kind = Kind::Password { hash: Arc::clone(hash), password: Secret::copy_of(password) };
        Verdict::Ask(kind, Claim { identity, memory: Some(memory), is_known: true })
    }

    /// HMAC-SHA-256 under this process's own key.
    fn keyed_hash(&self, first: &[u8], second: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.credentials.seed));
        // The length keeps apart what would run together.
        context.update(&(first.len() as u64).to_be_bytes());
        context.update(first);
        context.update(second);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }

    /// Remembers a password that was good.
    fn remember(&mut self, claim: &Claim) {
        if let (Some(user), Some(memory)) = (&claim.identity.user, claim.memory) {
            self.remembered.insert(user.clone(), memory);
        }
    }
}

fn throttle_limits(config: &config::Auth) -> Limits {
    Limits {
        max_failures: config.max_failures,
        window: config.failure_window,
        block: config.failure_block,
        max_addresses: config.max_addresses,
    }
}

/// Which of both is wrong nobody is told.
const BAD_PASSWORD: &str = "wrong user name or password";
