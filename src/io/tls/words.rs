//! What ended a connection, in words, with a remedy where there is one.

use std::io;

use rustls::{AlertDescription, CertificateError};

/// What ended a connection to an upstream.
pub(in crate::io) fn explain(error: &io::Error) -> String {
    let words = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(fault)) => explain_fault(fault),
        Some(rustls::Error::AlertReceived(alert)) => explain_alert(*alert),
        // What we say ourselves, of a key in a token.
        Some(rustls::Error::General(words)) => return words.clone(),
        _ => None,
    };
    words.map_or_else(|| error.to_string(), |words| format!("{words} ({error})"))
}

/// Why we do not trust a certificate.
fn explain_fault(fault: &CertificateError) -> Option<&'static str> {
    Some(match fault {
        CertificateError::UnknownIssuer => "no CA that we trust signed its certificate: set tls.ca",
        CertificateError::BadSignature => {
            "its certificate names a CA that we trust, but another key signed it: is tls.ca out of date?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: set tls.server_name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is our clock right?"
        }
        CertificateError::ApplicationVerificationFailure => "its public key is none of those in tls.pin",
        _ => return None,
    })
}

/// Why we are not trusted.
fn explain_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => "the peer wants a certificate of us: set tls.cert and tls.key",
        AlertDescription::UnknownCA => "the peer does not know the CA that signed our certificate",
        AlertDescription::CertificateExpired => "the peer says that our certificate has expired",
        AlertDescription::CertificateRevoked => "the peer says that our certificate is revoked",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError => "the peer does not accept our certificate",
        _ => return None,
    })
}

/// What ended the handshake of a client.
pub(in crate::io) fn explain_client(error: &io::Error) -> String {
    let words = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(fault)) => client_fault(fault),
        Some(rustls::Error::NoCertificatesPresented) => {
            Some("it showed no certificate, and tls.client_ca asks for one")
        }
        Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate)) => {
            Some("the client does not trust our certificate")
        }
        Some(rustls::Error::InvalidMessage(_)) => Some("what it says is not TLS"),
        Some(rustls::Error::PeerIncompatible(_)) => {
            Some("it knows no TLS version or cipher that we do: see tls.min_version")
        }
        _ => None,
    };
    words.map_or_else(|| error.to_string(), |words| format!("{words} ({error})"))
}

/// Why we do not trust a client's certificate.
fn client_fault(fault: &CertificateError) -> Option<&'static str> {
    Some(match fault {
        CertificateError::Revoked => "its certificate is revoked",
        CertificateError::UnknownRevocationStatus => {
            "whether its certificate is revoked cannot be told: tls.crl has no list of the CA that issued it"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is our clock right?"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was not issued by a CA in tls.client_ca"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for clients"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_connection_is_said_in_words() {
        for (error, words) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::BadSignature),
                "its certificate names a CA that we trust, but another key signed it: is tls.ca out of date? \
                 (invalid peer certificate: BadSignature)",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "the peer wants a certificate of us: set tls.cert and tls.key \
                 (received fatal alert: CertificateRequired)",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "the peer does not know the CA that signed our certificate (received fatal alert: UnknownCA)",
            ),
            (rustls::Error::DecryptError, "cannot decrypt peer's message"),
            (rustls::Error::General("token \"t\": it is not there".to_owned()), "token \"t\": it is not there"),
        ] {
            assert_eq!(explain(&io::Error::new(io::ErrorKind::InvalidData, error)), words);
        }
        assert_eq!(explain(&io::Error::other("cable")), "cable");
    }

    #[test]
    fn why_a_client_is_not_let_in_is_said_in_words() {
        for (error, words) in [
            (rustls::Error::InvalidCertificate(CertificateError::Revoked), "its certificate is revoked ("),
            (rustls::Error::InvalidCertificate(CertificateError::UnknownRevocationStatus), "tls.crl has no list"),
            (rustls::Error::NoCertificatesPresented, "tls.client_ca asks for one ("),
            (rustls::Error::DecryptError, "cannot decrypt peer's message"),
        ] {
            let said = explain_client(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(said.contains(words), "{said}");
        }
    }
}
