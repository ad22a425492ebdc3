//! The client's name in its certificate. That the certificate is good was found out in the handshake.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::CertificateName;

/// The name of whoever showed this certificate (DER), from the place that the listener takes it from.
///
/// # Errors
/// Why it has none.
pub fn name(der: &[u8], which: CertificateName) -> Result<Box<str>, &'static str> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "its certificate cannot be read")?;
    let name = match which {
        CertificateName::CommonName => common_name(&certificate)?,
        CertificateName::SanDns => alternative_name(&certificate, |name| match name {
            GeneralName::DNSName(name) => Some(name),
            _ => None,
        })?,
        CertificateName::SanEmail => alternative_name(&certificate, |name| match name {
            GeneralName::RFC822Name(name) => Some(name),
            _ => None,
        })?,
        CertificateName::SanUri => alternative_name(&certificate, |name| match name {
            GeneralName::URI(name) => Some(name),
            _ => None,
        })?,
    };
    if name.is_empty() || name.contains(char::is_control) {
        return Err("the name in its certificate is empty or has control characters");
    }
    Ok(name.into())
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, &'static str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().ok_or("its certificate has no common name")?;
    // Which of several is meant nobody knows.
    if names.next().is_some() {
        return Err("its certificate has more than one common name");
    }
    name.as_str().map_err(|_| "the common name of its certificate is not text")
}

/// The first of the wanted kind.
fn alternative_name<'a>(
    certificate: &'a X509Certificate<'_>,
    wanted: impl Fn(&'a GeneralName<'a>) -> Option<&'a str>,
) -> Result<&'a str, &'static str> {
    let names = certificate.subject_alternative_name();
    let names = names.map_err(|_| "the alternative names of its certificate cannot be read")?;
    let names = names.ok_or("its certificate has no alternative name")?;
    let mut found = names.value.general_names.iter().filter_map(wanted);
    found.next().ok_or("its certificate has no alternative name of the kind that the listener takes")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (n, name) in common_names.iter().enumerate() {
            let kind = if n == 0 { DnType::CommonName } else { DnType::OrganizationName };
            params.distinguished_name.push(kind, *name);
        }
        params.subject_alt_names = sans;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_comes_from_the_place_that_is_asked_for() {
        let sans = vec![
            SanType::URI("urn:box:7".try_into().unwrap()),
            SanType::DnsName("one.example".try_into().unwrap()),
            SanType::DnsName("two.example".try_into().unwrap()),
            SanType::Rfc822Name("box@example.com".try_into().unwrap()),
        ];
        let der = certificate(&["Böx 7", "Example"], sans);
        let names = [
            (CertificateName::CommonName, "Böx 7"),
            (CertificateName::SanDns, "one.example"),
            (CertificateName::SanEmail, "box@example.com"),
            (CertificateName::SanUri, "urn:box:7"),
        ];
        for (which, expected) in names {
            assert_eq!(name(&der, which).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_certificate_without_that_name_names_nobody() {
        let der = certificate(&[], vec![SanType::DnsName("one.example".try_into().unwrap())]);
        assert!(name(&der, CertificateName::CommonName).unwrap_err().contains("no common name"));
        assert!(name(&der, CertificateName::SanUri).unwrap_err().contains("of the kind"));
        let der = certificate(&[""], Vec::new());
        assert!(name(&der, CertificateName::CommonName).unwrap_err().contains("empty"));
        assert!(name(&der, CertificateName::SanDns).unwrap_err().contains("no alternative name"));
        let der = certificate(&["a\u{1}b"], Vec::new());
        assert!(name(&der, CertificateName::CommonName).unwrap_err().contains("control"));
    }

    #[test]
    fn bytes_that_are_no_certificate_name_nobody() {
        let der = certificate(&["box"], Vec::new());
        for cut in [0, 1, 10, der.len() / 2, der.len() - 1] {
            assert!(name(&der[..cut], CertificateName::CommonName).is_err());
        }
    }
}
