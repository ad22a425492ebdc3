//! HTTP/1.1 as far as it is needed here: one request to a connection, and its answer. Requests are small, so they are
//! read whole.

use tokio::sync::mpsc;

/// A request line and its fields.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// What comes after them.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// What a request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    /// Any other.
    Other,
}

/// A request. Fields that play no part here are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Without its query, as it was sent.
    pub(super) path: String,
    /// Names and values, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) host: Option<String>,
    pub(super) origin: Option<String>,
    /// `Sec-Fetch-Site`: what a browser says of where the request began.
    pub(super) site: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What has come so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// More is needed.
    Part,
    Whole(Request),
}

/// Why a request is not understood: a status and words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) u16, pub(super) &'static str);

/// Understands what came from the beginning of a connection.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Fault> {
    let Some(end) = bytes.windows(4).take(MAX_HEAD_BYTES).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() >= MAX_HEAD_BYTES {
            return Err(Fault(431, "the head of the request is too long"));
        }
        // Something that is no HTTP is told so at once, not when its time is over.
        return check_beginning(bytes).map(|()| Parsed::Part);
    };
    let head =
        std::str::from_utf8(&bytes[..end]).map_err(|_| Fault(400, "the head of the request is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let (mut request, is_new) = request_line(lines.next().unwrap_or_default())?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Fault(400, "a field has no colon"))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Fault(400, "a field has no proper name"));
        }
        field(&mut request, &mut length, name, value.trim_matches([' ', '\t']))?;
    }
    if is_new && request.host.is_none() {
        return Err(Fault(400, "HTTP/1.1 needs the field Host"));
    }
    let length = length.unwrap_or(0);
    let body = &bytes[end + 4..];
    if body.len() < length {
        return Ok(Parsed::Part);
    }
    request.body = body[..length].to_vec();
    Ok(Parsed::Whole(request))
}

fn check_beginning(bytes: &[u8]) -> Result<(), Fault> {
    const LONGEST_METHOD: usize = 16;
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let good = method.len() <= LONGEST_METHOD && method.iter().copied().all(is_token);
    if good { Ok(()) } else { Err(Fault(400, "this is no HTTP request")) }
}

/// Characters of methods and names of fields (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Method and target, and whether it is HTTP/1.1.
fn request_line(line: &str) -> Result<(Request, bool), Fault> {
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return Err(Fault(400, "this is no HTTP request"));
    };
    let is_new = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(Fault(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")),
    };
    let legal = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !legal || method.is_empty() || !method.bytes().all(is_token) {
        return Err(Fault(400, "this is no HTTP request"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| Some((decode(name)?, decode(value)?))).collect::<Option<_>>();
    let request = Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        },
        path: path.to_owned(),
        query: query.ok_or(Fault(400, "the query is not well formed"))?,
        host: None,
        origin: None,
        site: None,
        authorization: None,
        content_type: None,
        body: Vec::new(),
    };
    Ok((request, is_new))
}

fn field(request: &mut Request, length: &mut Option<usize>, name: &str, value: &str) -> Result<(), Fault> {
    let slot = match name.to_ascii_lowercase().as_str() {
        "host" => &mut request.host,
        "origin" => &mut request.origin,
        "sec-fetch-site" => &mut request.site,
        "authorization" => &mut request.authorization,
        "content-type" => &mut request.content_type,
        "transfer-encoding" => return Err(Fault(411, "send the length of the body, not chunks")),
        "content-length" => {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let found = value.parse().ok().filter(|_| digits && length.is_none());
            *length = Some(found.ok_or(Fault(400, "the length of the body is not well formed"))?);
            if found > Some(MAX_BODY_BYTES) {
                return Err(Fault(413, "the body is too long"));
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    // What says who asks may be said once only, or two readers might take different words for it.
    if slot.replace(value.to_owned()).is_some() {
        return Err(Fault(400, "a field is there twice"));
    }
    Ok(())
}

/// Percent and plus signs of a query.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What is answered.
#[derive(Debug)]
pub struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Body,
    /// What a browser may do with it: nothing, unless it is the page.
    pub(super) policy: &'static str,
}

/// What comes after the head of an answer.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// A part of the program.
    Fixed(&'static [u8]),
    /// Made while it is sent. It ended in order when the channel closes after an `Ok`; after an `Err` the connection
    /// is broken off, and the receiver sees that something is missing.
    Stream(mpsc::Receiver<Result<Vec<u8>, String>>),
}

const JSON: &str = "application/json";

impl Response {
    pub(super) fn new(content_type: &'static str, body: Body) -> Self {
        Self { status: 200, content_type, body, policy: "default-src 'none'; frame-ancestors 'none'" }
    }

    /// Something in JSON.
    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut text) => {
                text.push(b'\n');
                Self::new(JSON, Body::Whole(text))
            }
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// Why not, in words.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "error": message });
        Self { status, ..Self::json(&body) }
    }

    /// The head.
    pub(super) fn head(&self) -> Vec<u8> {
        let length = match &self.body {
            Body::Whole(body) => format!("Content-Length: {}", body.len()),
            Body::Fixed(body) => format!("Content-Length: {}", body.len()),
            Body::Stream(_) => "Transfer-Encoding: chunked".to_owned(),
        };
        let Self { status, content_type, policy, .. } = self;
        let reason = reason(*status);
        let ask = if *status == 401 { "WWW-Authenticate: Bearer\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n{length}\r\n{ask}Connection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Content-Security-Policy: {policy}\r\n\r\n"
        )
        .into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests;
