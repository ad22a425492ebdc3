//! Who may ask for what.
//!
//! The control socket is guarded by the permissions of its file, so whoever comes that way may do everything. Over TCP
//! comes anybody on this machine, and every page that a browser on it shows. So:
//!
//! * A browser that was led here by a name of somebody else's (DNS rebinding) is known by the field `Host`.
//! * What another site's page asks for is known by `Origin` and `Sec-Fetch-Site`.
//! * Nothing is changed without the token, which is sent in `Authorization` and never kept as a cookie, and without
//!   the content type of JSON, which another site's form cannot send.

use std::net::IpAddr;

use crate::admin::Office;
use crate::admin::http::{Fault, Method, Request};

/// The way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The control socket.
    Socket,
    /// TCP.
    Http,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Shown to anybody: the empty page, and whether the gateway lives.
    Open,
    /// Shows something.
    Read,
    /// Changes something.
    Change,
}

/// Lets a request pass, or says why not.
pub(super) fn check(office: &Office, door: Door, right: Right, request: &Request) -> Result<(), Fault> {
    if right == Right::Change {
        let content_type = request.content_type.as_deref().unwrap_or_default();
        if request.method != Method::Post {
            return Err(Fault(405, "this changes something: POST it"));
        }
        let kind = content_type.split(';').next().unwrap_or_default().trim_ascii();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Fault(415, "send JSON, and say so in Content-Type"));
        }
    }
    if door == Door::Socket {
        return Ok(());
    }
    let host = request.host.as_deref().unwrap_or_default();
    if !is_own_name(host) {
        return Err(Fault(403, "this name is not known here: use the address, or localhost"));
    }
    if !is_same_origin(request, host) {
        return Err(Fault(403, "requests from other sites are refused"));
    }
    match right {
        Right::Open => Ok(()),
        Right::Read if !office.token_to_read => Ok(()),
        Right::Read | Right::Change => token(office, request),
    }
}

fn token(office: &Office, request: &Request) -> Result<(), Fault> {
    let Some(token) = &office.token else {
        return Err(Fault(403, "this page is for reading: no token_file is configured in [admin]"));
    };
    let offered = request.authorization.as_deref().unwrap_or_default();
    match offered.split_once(' ') {
        Some((scheme, offered)) if scheme.eq_ignore_ascii_case("bearer") && token.is(offered.trim_ascii()) => {
            Ok(())
        }
        _ => Err(Fault(401, "the token of [admin] is needed")),
    }
}

/// An address, or the name that always means this machine. No other name: whoever owns it could lead browsers here.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// Programs say nothing; browsers say where a request began.
fn is_same_origin(request: &Request, host: &str) -> bool {
    let site = request.site.as_deref().unwrap_or("none");
    // A link on another page may lead here: that is a GET, and it shows its reader what the address line would.
    let site_is_good = matches!(site, "same-origin" | "none");
    let origin_is_good = request.origin.as_deref().is_none_or(|origin| {
        origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    });
    site_is_good && origin_is_good
}

#[cfg(test)]
mod tests;
