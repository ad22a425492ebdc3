//! Why a link ended, and what follows from it.

use std::fmt;

use crate::mqtt::{DecodeError, ReasonCode};

/// Why a link, or the try to bring it up, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The shell could not connect.
    Dial(String),
    /// CONNACK said no; with the server's words, if any.
    Refused(ReasonCode, String),
    /// The transport was closed or failed.
    Closed(Option<String>),
    /// The server sent DISCONNECT; with its words, if any.
    Disconnected(ReasonCode, String),
    /// The server broke the protocol, perhaps in answer to a message of ours.
    Broke(ReasonCode, &'static str),
    /// The server broke the protocol in what it sent of its own accord.
    BrokeInbound(ReasonCode, &'static str),
    /// We gave the link up: something did not come in time.
    Silent(&'static str),
    /// We left a link that was good, to dial again at once; and why.
    Left(&'static str),
    /// The store could not take what the exchange needs to be safe.
    Store,
    /// We say goodbye.
    Shutdown,
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        Self::Broke(error.reason(), error.text())
    }
}

impl End {
    /// Whether it may have been a message in flight that ended the link: the upstream closed, or answered with what is
    /// no answer. Not if the upstream says that it was something else, and not if we closed.
    pub(super) const fn blames_messages(&self) -> bool {
        match self {
            Self::Closed(_) | Self::Broke(..) => true,
            Self::Disconnected(reason, _) => !matches!(
                reason,
                ReasonCode::Success
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::KeepAliveTimeout
                    | ReasonCode::SessionTakenOver
                    | ReasonCode::MessageRateTooHigh
                    | ReasonCode::QuotaExceeded
                    | ReasonCode::AdministrativeAction
                    | ReasonCode::UseAnotherServer
                    | ReasonCode::ServerMoved
                    | ReasonCode::ConnectionRateExceeded
                    | ReasonCode::MaximumConnectTime
            ),
            _ => false,
        }
    }

    /// The same, when it was about a packet that answers nothing of ours.
    pub(super) fn inbound(self) -> Self {
        match self {
            Self::Broke(reason, text) => Self::BrokeInbound(reason, text),
            end => end,
        }
    }

    /// Whether trying again soon cannot help: somebody must act first.
    pub(super) const fn needs_hands(&self) -> bool {
        match self {
            Self::Refused(reason, _) | Self::Disconnected(reason, _) => matches!(
                reason,
                ReasonCode::SessionTakenOver
                    | ReasonCode::UnsupportedProtocolVersion
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::BadUserNameOrPassword
                    | ReasonCode::NotAuthorized
                    | ReasonCode::Banned
                    | ReasonCode::BadAuthenticationMethod
                    | ReasonCode::UseAnotherServer
                    | ReasonCode::ServerMoved
            ),
            _ => false,
        }
    }

    /// What a 5.0 server is told before we close, if anything.
    pub(super) const fn farewell(&self) -> Option<ReasonCode> {
        match self {
            Self::Broke(reason, _) | Self::BrokeInbound(reason, _) => Some(*reason),
            Self::Shutdown | Self::Left(_) => Some(ReasonCode::Success),
            _ => None,
        }
    }

    /// Whether the other side closed already.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Closed(_))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, reason, words) = match self {
            Self::Dial(error) => return write!(f, "cannot connect: {error}"),
            Self::Closed(None) => return f.write_str("upstream closed the connection"),
            Self::Closed(Some(error)) => return write!(f, "connection lost: {error}"),
            Self::Broke(_, text) | Self::BrokeInbound(_, text) => {
                return write!(f, "upstream broke the protocol: {text}");
            }
            Self::Silent(what) | Self::Left(what) => return f.write_str(what),
            Self::Store => return f.write_str("the store cannot take the answer of the upstream"),
            Self::Shutdown => return f.write_str("shutting down"),
            Self::Refused(reason, words) => ("upstream refused the connection", reason, words),
            Self::Disconnected(reason, words) => ("upstream disconnected", reason, words),
        };
        write!(f, "{before}: {reason} (0x{:02X})", reason.as_u8())?;
        if words.is_empty() { Ok(()) } else { write!(f, ", {words:?}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_who_ended_it_and_why() {
        let refused = End::Refused(ReasonCode::NotAuthorized, "no such device".into());
        assert_eq!(
            refused.to_string(),
            "upstream refused the connection: Not authorized (0x87), \"no such device\""
        );
        assert_eq!(End::Closed(None).to_string(), "upstream closed the connection");
    }

    #[test]
    fn a_message_is_blamed_only_when_the_upstream_closed_without_another_reason() {
        assert!(End::Closed(None).blames_messages());
        assert!(End::Disconnected(ReasonCode::PacketTooLarge, String::new()).blames_messages());
        assert!(!End::Disconnected(ReasonCode::ServerShuttingDown, String::new()).blames_messages());
        assert!(!End::Silent("no acknowledgement").blames_messages());
    }
}
