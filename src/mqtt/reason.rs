//! Reason codes, MQTT 5.0 section 2.4, and the return codes of CONNACK in 3.1 and 3.1.1.

use std::fmt;

use crate::mqtt::{PacketType, QoS};

macro_rules! reason_codes {
    ($($(#[$attr:meta])* $code:literal $name:ident $text:literal [$($packet:ident)*])*) => {
        /// The result of an operation, MQTT 5.0 table 2-6. Below 0x80 it succeeded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(
                #[doc = $text]
                $(#[$attr])*
                $name = $code,
            )*
        }

        impl ReasonCode {
            /// All codes, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code with this number, if there is one.
            #[must_use]
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name in the standard.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// A bit for each type of packet that may carry this code.
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| 1 << PacketType::$packet as u8)*,)*
                }
            }
        }
    };
}

reason_codes! {
    #[default]
    0x00 Success "Success" [ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck Disconnect Auth]
    0x01 GrantedQoS1 "Granted QoS 1" [SubAck]
    0x02 GrantedQoS2 "Granted QoS 2" [SubAck]
    0x04 DisconnectWithWill "Disconnect with Will Message" [Disconnect]
    0x10 NoMatchingSubscribers "No matching subscribers" [PubAck PubRec]
    0x11 NoSubscriptionExisted "No subscription existed" [UnsubAck]
    0x18 ContinueAuthentication "Continue authentication" [Auth]
    0x19 ReAuthenticate "Re-authenticate" [Auth]
    0x80 UnspecifiedError "Unspecified error" [ConnAck PubAck PubRec SubAck UnsubAck Disconnect]
    0x81 MalformedPacket "Malformed Packet" [ConnAck Disconnect]
    0x82 ProtocolError "Protocol Error" [ConnAck Disconnect]
    0x83 ImplementationSpecificError "Implementation specific error" [ConnAck PubAck PubRec SubAck UnsubAck Disconnect]
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" [ConnAck]
    0x85 ClientIdentifierNotValid "Client Identifier not valid" [ConnAck]
    0x86 BadUserNameOrPassword "Bad User Name or Password" [ConnAck]
    0x87 NotAuthorized "Not authorized" [ConnAck PubAck PubRec SubAck UnsubAck Disconnect]
    0x88 ServerUnavailable "Server unavailable" [ConnAck]
    0x89 ServerBusy "Server busy" [ConnAck Disconnect]
    0x8A Banned "Banned" [ConnAck]
    0x8B ServerShuttingDown "Server shutting down" [Disconnect]
    0x8C BadAuthenticationMethod "Bad authentication method" [ConnAck Disconnect]
    0x8D KeepAliveTimeout "Keep Alive timeout" [Disconnect]
    0x8E SessionTakenOver "Session taken over" [Disconnect]
    0x8F TopicFilterInvalid "Topic Filter invalid" [SubAck UnsubAck Disconnect]
    0x90 TopicNameInvalid "Topic Name invalid" [ConnAck PubAck PubRec Disconnect]
    0x91 PacketIdentifierInUse "Packet Identifier in use" [PubAck PubRec SubAck UnsubAck]
    0x92 PacketIdentifierNotFound "Packet Identifier not found" [PubRel PubComp]
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" [Disconnect]
    0x94 TopicAliasInvalid "Topic Alias invalid" [Disconnect]
    0x95 PacketTooLarge "Packet too large" [ConnAck Disconnect]
    0x96 MessageRateTooHigh "Message rate too high" [Disconnect]
    0x97 QuotaExceeded "Quota exceeded" [ConnAck PubAck PubRec SubAck Disconnect]
    0x98 AdministrativeAction "Administrative action" [Disconnect]
    0x99 PayloadFormatInvalid "Payload format invalid" [ConnAck PubAck PubRec Disconnect]
    0x9A RetainNotSupported "Retain not supported" [ConnAck Disconnect]
    0x9B QoSNotSupported "QoS not supported" [ConnAck Disconnect]
    0x9C UseAnotherServer "Use another server" [ConnAck Disconnect]
    0x9D ServerMoved "Server moved" [ConnAck Disconnect]
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported" [SubAck Disconnect]
    0x9F ConnectionRateExceeded "Connection rate exceeded" [ConnAck Disconnect]
    0xA0 MaximumConnectTime "Maximum connect time" [Disconnect]
    0xA1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported" [SubAck Disconnect]
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported" [SubAck Disconnect]
}

impl ReasonCode {
    /// The code as a number.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether a packet of this type may carry this code.
    #[must_use]
    pub const fn belongs_to(self, packet: PacketType) -> bool {
        self.packets() >> packet as u8 & 1 == 1
    }

    /// What SUBACK says for this granted level.
    #[must_use]
    pub const fn granted(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::Success,
            QoS::AtLeastOnce => Self::GrantedQoS1,
            QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// The CONNACK return code of 3.1 and 3.1.1 that says nearest the same (3.1.1, table 3.1).
    #[must_use]
    pub const fn to_return_code(self) -> u8 {
        match self {
            code if !code.is_error() => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => 5,
            _ => 3,
        }
    }

    /// The reason code that says the same as this CONNACK return code of 3.1 and 3.1.1, if it has a meaning.
    #[must_use]
    pub const fn from_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_agree() {
        let known: Vec<ReasonCode> = (0..=255).filter_map(ReasonCode::from_u8).collect();
        assert_eq!(known, ReasonCode::ALL);
        assert!(known.iter().all(|code| ReasonCode::from_u8(code.as_u8()) == Some(*code)));
        assert_eq!(known.len(), 43);
    }

    #[test]
    fn packets_carry_their_codes_only() {
        assert!(ReasonCode::NoMatchingSubscribers.belongs_to(PacketType::PubRec));
        assert!(!ReasonCode::NoMatchingSubscribers.belongs_to(PacketType::PubRel));
        assert!(ReasonCode::ALL.iter().all(|code| !code.belongs_to(PacketType::Publish)));
    }

    #[test]
    fn return_codes_round_trip() {
        for code in 0..=5 {
            assert_eq!(ReasonCode::from_return_code(code).map(ReasonCode::to_return_code), Some(code));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::ServerBusy.to_return_code(), 3);
    }
}
